//! Videos through the program, with the ffmpeg on the PATH. Without one, nothing is tested, unless
//! `HI_DIFF_REQUIRE_FFMPEG` is set.
#![cfg(all(feature = "cli", feature = "flex"))]

#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tiny::TINY;

/// Whether there is an ffmpeg to test with.
fn ffmpeg_found() -> bool {
    let found = |program: &str| Command::new(program).arg("-version").output().is_ok();
    let both = found("ffmpeg") && found("ffprobe");
    if !both {
        assert!(
            std::env::var_os("HI_DIFF_REQUIRE_FFMPEG").is_none(),
            "HI_DIFF_REQUIRE_FFMPEG is set, and ffmpeg or ffprobe is not on the PATH"
        );
        println!("left out: no ffmpeg and ffprobe on the PATH");
    }
    both
}

/// A folder to work in.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// None without an ffmpeg to test with.
    fn with_ffmpeg() -> Option<Self> {
        ffmpeg_found().then(Self::new)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hi-diff"));
        command.current_dir(self.0.path());
        command.args(["deblur", "--backend", "flex"]);
        if !arguments.contains(&"--weights") {
            command.args(["--weights", TINY]);
        }
        command.args(arguments);
        command
    }

    fn deblur(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().unwrap()
    }

    /// Deblurs, and returns what was printed.
    fn deblurred(&self, arguments: &[&str]) -> String {
        let output = self.deblur(arguments);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Fails to deblur, and returns the errors.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.deblur(arguments);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        errors
    }

    /// Runs ffmpeg on words separated by spaces, and returns what it wrote to standard output.
    fn ffmpeg(&self, words: &str) -> Vec<u8> {
        let output = Command::new("ffmpeg")
            .current_dir(self.0.path())
            .args(["-nostdin", "-v", "error"])
            .args(words.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {}", errors(&output));
        output.stdout
    }

    /// What ffprobe finds, without the names of fields.
    fn probe(&self, name: &str, words: &str) -> String {
        let output = Command::new("ffprobe")
            .current_dir(self.0.path())
            .args(["-v", "error", "-of", "csv=p=0"])
            .args(words.split_whitespace())
            .args(["-i", &format!("file:{name}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{name}: {}", errors(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }

    /// Gray frames that become brighter by 12 each, with a tone.
    fn clip(&self, name: &str, frames: u32, flags: &str) {
        let seconds = f64::from(frames) / 10.0;
        self.ffmpeg(&format!(
            "-f lavfi -i nullsrc=s=64x48:r=10:d={seconds},geq=lum=40+12*N:cb=128:cr=128 \
             -f lavfi -i sine=d={seconds} -pix_fmt yuv420p -c:v libx264 -crf 10 -c:a aac {flags} {name}"
        ));
    }

    /// The mean of each channel of each frame.
    fn means(&self, name: &str) -> Vec<[f64; 3]> {
        let size = self.size(name);
        let bytes = self.ffmpeg(&format!(
            "-i file:{name} -map 0:v:0 -fps_mode passthrough -pix_fmt rgb24 -f rawvideo pipe:1"
        ));
        let pixels = size.0 * size.1;
        let frames = bytes.chunks_exact(3 * pixels);
        let mean = |frame: &[u8], channel: usize| {
            let values = frame.iter().skip(channel).step_by(3);
            values.map(|&value| f64::from(value)).sum::<f64>() / pixels as f64
        };
        frames
            .map(|frame| [0, 1, 2].map(|channel| mean(frame, channel)))
            .collect()
    }

    /// Width and height as stored.
    fn size(&self, name: &str) -> (usize, usize) {
        let size = self.probe(
            name,
            "-select_streams v:0 -show_entries stream=width,height",
        );
        let (width, height) = size.split_once(',').unwrap();
        (
            width.parse().unwrap(),
            height.trim_end_matches(',').parse().unwrap(),
        )
    }

    /// Seconds at which the frames are shown.
    fn times(&self, name: &str) -> Vec<f64> {
        let flags = "-select_streams v:0 -show_entries packet=pts_time";
        let times = self.probe(name, flags);
        let times = times.lines().map(|line| line.trim_end_matches(','));
        let mut times: Vec<f64> = times.map(|time| time.parse().unwrap()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// Seconds from the first packet of sound, which some containers bring to zero, to each frame.
    fn delays(&self, name: &str) -> Vec<f64> {
        let flags = "-select_streams a:0 -show_entries packet=pts_time";
        let sound = self.probe(name, flags);
        let first = sound.lines().next().unwrap().trim_end_matches(',');
        let first: f64 = first.parse().unwrap();
        let times = self.times(name);
        times.iter().map(|time| time - first).collect()
    }

    /// A checksum over the packets of a file's sound.
    fn sound(&self, name: &str) -> String {
        let sum = self.ffmpeg(&format!("-i file:{name} -map 0:a -c copy -f md5 pipe:1"));
        String::from_utf8(sum).unwrap()
    }

    /// A checksum of each frame and each piece of sound, with their times.
    fn content(&self, name: &str) -> String {
        let sums = self.ffmpeg(&format!("-i file:{name} -map 0 -f framemd5 pipe:1"));
        String::from_utf8(sums).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = self.program(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Waits until so many frames are restored.
    fn await_frames(&self, child: &mut Child, folder: &str, count: usize) {
        let last = self.path(folder).join(format!("{count:08}.png"));
        let begin = Instant::now();
        while !last.exists() {
            assert!(child.try_wait().unwrap().is_none(), "too late to stop it");
            assert!(begin.elapsed() < Duration::from_secs(120), "no frames");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let difference = (found - expected).abs();
    assert!(
        difference <= tolerance,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn frames_stay_in_order_and_the_sound_is_the_same() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip(
        "in.mp4",
        12,
        "-metadata title=Clip -metadata:s:a language=deu",
    );
    let printed = place.deblurred(&["in.mp4", "-o", "out.mp4", "-v"]);
    assert!(printed.contains("out.mp4: 64×48, 12 frames, "), "{printed}");
    assert!(printed.contains("frames/s"), "{printed}");

    let (before, after) = (place.means("in.mp4"), place.means("out.mp4"));
    assert_eq!(after.len(), 12);
    for (index, frame) in after.iter().enumerate() {
        let distance = |other: &[f64; 3]| (other[0] - frame[0]).abs();
        let nearest = before.iter().map(distance).enumerate();
        let nearest = nearest.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(nearest.0, index, "{frame:?} among {before:?}");
    }
    assert_eq!(place.times("out.mp4"), place.times("in.mp4"));
    assert_eq!(place.sound("out.mp4"), place.sound("in.mp4"));
    for fields in [
        "format=duration",
        "stream=codec_name,duration",
        "format_tags=title",
        "stream_tags=language",
        "stream=r_frame_rate,sample_aspect_ratio,color_range,color_space",
    ] {
        let flags = format!("-show_entries {fields}");
        let (before, after) = (
            place.probe("in.mp4", &flags),
            place.probe("out.mp4", &flags),
        );
        assert_eq!(after, before, "{fields}");
    }
    assert_eq!(place.names(), ["in.mp4", "out.mp4"]);
}

#[test]
fn varying_times_and_a_late_start_are_kept() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    let vary = "-vf settb=1/90000,setpts=(N*N+3*N)/7/TB/10+0.24/TB -fps_mode passthrough -enc_time_base 1:90000 \
                -video_track_timescale 90000 -bf 0";
    place.clip("in.mp4", 9, vary);
    let before = place.times("in.mp4");
    let steps: Vec<_> = before.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps[7] > 2.0 * steps[0] && before[0] > 0.2, "{before:?}");
    // No AAC in WebM.
    place.ffmpeg("-i in.mp4 -c:v copy -c:a libopus opus.mkv");
    for (input, output) in [
        ("in.mp4", "out.mp4"),
        ("in.mp4", "out.mkv"),
        ("opus.mkv", "out.webm"),
    ] {
        place.deblurred(&[input, "-o", output]);
        // Matroska and WebM count milliseconds, and ffmpeg moves Opus against all else by its priming.
        let copy = format!("copy-{output}").replace(".webm", "-webm.mkv");
        place.ffmpeg(&format!("-i {input} -c copy {copy}"));
        let tolerance = if output.ends_with("mp4") {
            2e-6
        } else {
            1.1e-3
        };
        let (before, after) = (place.delays(&copy), place.delays(output));
        assert_eq!(after.len(), 9);
        for (after, before) in after.iter().zip(&before) {
            assert_close(*after, *before, tolerance, output);
        }
    }
    assert_eq!(place.times("out.mp4"), before);
    let duration = |name| -> f64 {
        let flags = "-select_streams v:0 -show_entries stream=duration";
        place
            .probe(name, flags)
            .trim_end_matches(',')
            .parse()
            .unwrap()
    };
    let last = steps[7];
    assert_close(
        duration("out.mp4"),
        duration("in.mp4"),
        last,
        "the last frame",
    );
    assert!(duration("out.mp4") > before[8] - before[0]);
}

#[test]
fn a_rotation_is_applied_once() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.ffmpeg(
        "-f lavfi -i color=white:s=64x48:r=10:d=0.3,drawbox=0:0:32:48:black:fill,setsar=4/3 \
         -pix_fmt yuv420p -c:v libx264 flat.mp4",
    );
    // ffmpeg 6 has a flag for it; before, it was a tag.
    let new = Command::new("ffmpeg")
        .current_dir(place.0.path())
        .args(["-v", "quiet", "-display_rotation", "90", "-i", "flat.mp4"])
        .args(["-c", "copy", "in.mp4"])
        .status();
    if !new.unwrap().success() {
        place.ffmpeg("-i flat.mp4 -c copy -metadata:s:v rotate=270 -y in.mp4");
    }
    let rotation = |name| place.probe(name, "-show_entries stream_side_data=rotation");
    assert!(rotation("in.mp4").contains("90"), "{}", rotation("in.mp4"));
    place.deblurred(&["in.mp4", "-o", "out.mp4"]);
    assert_eq!(rotation("out.mp4"), "");
    assert_eq!(place.size("out.mp4"), (48, 64));
    let shape = place.probe("out.mp4", "-show_entries stream=sample_aspect_ratio");
    assert_eq!(shape, "3:4");
    // As players show both.
    let picture = |name: &str| {
        place.ffmpeg(&format!(
            "-i {name} -frames:v 1 -pix_fmt gray -f rawvideo pipe:1"
        ))
    };
    let (before, after) = (picture("in.mp4"), picture("out.mp4"));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert!(before.abs_diff(*after) < 100, "{before} became {after}");
    }
}

#[test]
fn sides_of_odd_length_are_padded_only_where_they_must_be() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.ffmpeg("-f lavfi -i testsrc=s=63x47:r=10:d=0.3 -c:v ffv1 in.mkv");
    place.deblurred(&["in.mkv", "-o", "out.mp4"]);
    assert_eq!(place.size("out.mp4"), (64, 48));
    place.deblurred(&["in.mkv", "-o", "out.webm"]);
    assert_eq!(place.size("out.webm"), (63, 47));
    // What is added continues the picture.
    let gray = "-frames:v 1 -pix_fmt gray -f rawvideo pipe:1";
    let padded = place.ffmpeg(&format!("-i out.mp4 {gray}"));
    let differences = (0..47).map(|y| padded[64 * y + 63].abs_diff(padded[64 * y + 62]));
    let mean = differences.map(f64::from).sum::<f64>() / 47.0;
    assert!(mean < 8.0, "the last column differs by {mean}");
}

#[test]
fn colours_keep_their_meaning() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    for (name, flags) in [
        ("hd.mp4", "1 1 1 tv yuv420p"),
        ("full.mp4", "1 13 1 pc yuv420p"),
        ("sd.mp4", "6 6 6 tv yuv420p"),
        ("deep.mp4", "9 16 9 tv yuv420p10le"),
        ("plain.mp4", "2 2 2 tv yuv420p"),
    ] {
        let flags: Vec<_> = flags.split(' ').collect();
        let [primaries, transfer, matrix, range, pixels] = flags[..] else {
            unreachable!()
        };
        let conversion = ["", "bt709", "bt601", "", "", "", "bt601", "", "", "bt2020"]
            [matrix.parse::<usize>().unwrap()];
        place.ffmpeg(&format!(
            "-f lavfi -i color=0xc03020:s=64x48:r=10:d=0.2,format=gbrp \
             -vf scale=out_color_matrix={conversion}:out_range={range},format={pixels} -c:v libx264 \
             -crf 5 -color_primaries {primaries} -color_trc {transfer} -colorspace {matrix} \
             -color_range {range} {name}"
        ));
        let output = format!("out-{name}");
        place.deblurred(&[name, "-o", &output]);
        let fields =
            "-show_entries stream=pix_fmt,color_range,color_space,color_transfer,color_primaries";
        assert_eq!(
            place.probe(&output, fields),
            place.probe(name, fields),
            "{name}"
        );
        let (before, after) = (place.means(name)[0], place.means(&output)[0]);
        for (before, after) in before.iter().zip(&after) {
            assert_close(*after, *before, 6.0, name);
        }
    }
}

#[test]
fn subtitles_and_chapters_come_along() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("clip.mp4", 6, "");
    fs::write(
        place.path("words.srt"),
        "1\n00:00:00,000 --> 00:00:00,300\nHello\n",
    )
    .unwrap();
    let chapter = |start, end, title| {
        format!("[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n")
    };
    let chapters = format!(
        ";FFMETADATA1\n{}{}",
        chapter(0, 300, "One"),
        chapter(300, 600, "Two")
    );
    fs::write(place.path("chapters.txt"), chapters).unwrap();
    place.ffmpeg(
        "-i clip.mp4 -i words.srt -i chapters.txt -map 0 -map 1 -map_metadata 2 -c:v copy -c:a copy \
         -c:s srt -metadata:s:s language=eng in.mkv",
    );
    for (output, codec) in [("out.mkv", "subrip"), ("out.mp4", "mov_text")] {
        place.deblurred(&["in.mkv", "-o", output]);
        let subtitle = place.probe(
            output,
            "-select_streams s -show_entries stream=codec_name:stream_tags=language",
        );
        assert_eq!(subtitle, format!("{codec},eng"));
        let chapters = place.probe(output, "-show_chapters");
        assert!(
            chapters.contains("One") && chapters.contains("Two"),
            "{chapters}"
        );
        assert_eq!(place.sound(output), place.sound("in.mkv"));
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_result() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("in.mp4", 18, "");
    place.deblurred(&["in.mp4", "-o", "whole.mp4"]);

    let mut child = place.start(&["in.mp4", "-o", "out.mp4"]);
    place.await_frames(&mut child, "out.mp4.frames", 3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!place.path("out.mp4").exists());
    let kept = |place: &Place| {
        let entries = fs::read_dir(place.path("out.mp4.frames")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "png"))
            .count()
    };
    let first = kept(&place);
    assert!((3..18).contains(&first), "{first} frames");

    // Only as it was begun.
    let undecided = place.refused(&["in.mp4", "-o", "out.mp4"]);
    assert!(undecided.contains("out.mp4.frames"), "{undecided}");
    assert!(
        undecided.contains("--resume") && undecided.contains("--force"),
        "{undecided}"
    );
    let seed = place.refused(&["in.mp4", "-o", "out.mp4", "--resume", "--seed", "1"]);
    assert!(seed.contains("seed was 0, now 1"), "{seed}");
    let turned = place.refused(&["in.mp4", "-o", "out.mp4", "--resume", "--tta"]);
    assert!(turned.contains("tta was false, now true"), "{turned}");

    // A frame that a power failure spoiled is made again.
    let spoiled = place.path("out.mp4.frames/00000003.png");
    fs::write(&spoiled, [0; 500]).unwrap();
    let printed = place.deblurred(&["in.mp4", "-o", "out.mp4", "--resume", "-v"]);
    assert!(printed.contains("18 frames (16 of them now)"), "{printed}");
    assert!(place.content("out.mp4") == place.content("whole.mp4"));
    assert_eq!(place.names(), ["in.mp4", "out.mp4", "whole.mp4"]);

    let again = place.deblur(&["in.mp4", "-o", "out.mp4", "--resume"]);
    assert!(again.status.success());
    assert!(errors(&again).contains("kept: 1 result of an earlier run"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("in.mp4", 18, "");
    place.deblurred(&["in.mp4", "-o", "whole.mp4"]);
    let mut child = place.start(&["in.mp4", "-o", "out.mp4"]);
    place.await_frames(&mut child, "out.mp4.frames", 2);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("stopping after this frame"), "{errors}");
    assert!(
        errors.contains("of 18; --resume goes on from there"),
        "{errors}"
    );
    place.deblurred(&["in.mp4", "-o", "out.mp4", "--resume"]);
    assert!(place.content("out.mp4") == place.content("whole.mp4"));
}

#[test]
fn nothing_is_overwritten_without_force() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("in.mp4", 3, "");
    fs::write(place.path("out.mp4"), "before").unwrap();
    let refused = place.refused(&["in.mp4", "-o", "out.mp4"]);
    assert!(refused.contains("out.mp4: exists already"), "{refused}");
    assert_eq!(fs::read(place.path("out.mp4")).unwrap(), b"before");
    place.deblurred(&["in.mp4", "-o", "out.mp4", "--force"]);
    assert_eq!(place.times("out.mp4").len(), 3);
    let input = fs::read(place.path("in.mp4")).unwrap();
    let refused = place.refused(&["in.mp4", "-o", "in.mp4", "--force"]);
    assert!(refused.contains("one of the inputs"), "{refused}");
    assert_eq!(fs::read(place.path("in.mp4")).unwrap(), input);
}

#[test]
fn a_result_that_is_empty_or_older_than_its_video_is_made_again_when_resuming() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("in.mp4", 2, "");
    let resume = ["in.mp4", "-o", "out.mp4", "--resume"];
    let made_again = || {
        let output = place.deblur(&resume);
        assert!(output.status.success(), "{}", errors(&output));
        !errors(&output).contains("kept: 1 result")
    };
    fs::write(place.path("out.mp4"), "").unwrap();
    assert!(made_again(), "empty");
    assert_eq!(place.times("out.mp4").len(), 2);
    assert!(!made_again(), "finished");
    let result = fs::metadata(place.path("out.mp4")).unwrap();
    let later = result.modified().unwrap() + std::time::Duration::from_secs(10);
    let video = fs::File::options()
        .append(true)
        .open(place.path("in.mp4"))
        .unwrap();
    video.set_modified(later).unwrap();
    assert!(made_again(), "older than its video");
}

#[test]
fn videos_and_photographs_go_into_one_folder() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("a.mp4", 2, "");
    place.ffmpeg("-i a.mp4 -c:v mpeg4 -c:a copy b.avi");
    place.ffmpeg("-i a.mp4 -frames:v 1 c.png");
    fs::write(place.path("broken.mov"), "no video").unwrap();
    let output = place.deblur(&["a.mp4", "b.avi", "broken.mov", "c.png", "-o", "out"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.contains("broken.mov: "), "{errors}");
    let mut names: Vec<_> = fs::read_dir(place.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["a.mp4", "b.mkv", "c.png"]);
    assert_eq!(place.times("out/b.mkv").len(), 2);
    // Folders are searched for photographs only.
    let refused = place.refused(&[".", "a.mp4", "-o", "out.mp4"]);
    assert!(refused.contains("expected a folder"), "{refused}");
}

#[test]
fn files_that_are_no_videos_get_one_clear_error() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("whole.mp4", 10, "");
    place.clip("fast.mp4", 10, "-movflags +faststart");
    place.ffmpeg("-f lavfi -i sine=d=0.3 -c:a aac sound.mp4");
    fs::write(place.path("empty.mp4"), "").unwrap();
    fs::write(place.path("text.mp4"), "These are words.").unwrap();
    // A playlist would read files that it names, and not only its own.
    fs::write(
        place.path("playlist.mp4"),
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n",
    )
    .unwrap();
    fs::write(
        place.path("list.mkv"),
        "ffconcat version 1.0\nfile whole.mp4\n",
    )
    .unwrap();
    let whole = fs::read(place.path("whole.mp4")).unwrap();
    fs::write(place.path("header.mp4"), &whole[..whole.len() / 4]).unwrap();
    for (name, reason) in [
        ("sound.mp4", "no video stream"),
        ("empty.mp4", "ff"),
        ("text.mp4", "ff"),
        ("playlist.mp4", "ff"),
        ("list.mkv", "ff"),
        ("header.mp4", ""),
        ("gone.mp4", "No such file"),
    ] {
        let refused = place.refused(&[name, "-o", "out.mp4"]);
        let expected = format!("error: {name}: ");
        assert!(
            refused.contains(&expected) && refused.contains(reason),
            "{refused}"
        );
        assert_eq!(refused.matches("error:").count(), 1, "{refused}");
        assert!(!place.path("out.mp4").exists() && !place.path("out.mp4.frames").exists());
    }
    // Of a video that ends early, what is there is done, and the rest is spoken of.
    let fast = fs::read(place.path("fast.mp4")).unwrap();
    fs::write(place.path("cut.mp4"), &fast[..fast.len() * 2 / 3]).unwrap();
    let output = place.deblur(&["cut.mp4", "-o", "cut.mkv"]);
    let errors = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("warning: cut.mp4: ffmpeg: "), "{errors}");
    assert!(
        !errors.contains("0x5") && !errors.contains("@ 0x"),
        "{errors}"
    );
    let frames = place.times("cut.mkv").len();
    assert!((1..=10).contains(&frames), "{frames} frames");
}

#[test]
fn sound_that_does_not_fit_is_refused_before_the_work() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("in.mkv", 60, "-c:a pcm_s16le");
    let refused = place.refused(&["in.mkv", "-o", "out.webm"]);
    assert!(refused.contains("out.webm: ffmpeg: "), "{refused}");
    assert!(refused.contains(".mkv holds any audio"), "{refused}");
    assert_eq!(place.names(), ["in.mkv"]);
}

#[test]
fn no_name_is_taken_for_something_else() {
    let Some(place) = Place::with_ffmpeg() else {
        return;
    };
    place.clip("plain.mp4", 2, "");
    let names = [
        "-i.mp4",
        "50%d.mp4",
        "http:x.mp4",
        "file:a b.mp4",
        "a:'b;c|d.mp4",
        "[0:v].mp4",
    ];
    for name in names {
        if cfg!(windows) && name.contains([':', '|', '\'']) {
            continue;
        }
        fs::copy(place.path("plain.mp4"), place.path(name)).unwrap();
        place.deblurred(&["-o", &format!("out/{name}"), "--", name]);
        assert_eq!(place.times(&format!("out/{name}")).len(), 2, "{name}");
    }
}

#[test]
fn without_ffmpeg_the_error_says_what_to_do() {
    let place = Place::new();
    fs::write(place.path("in.mp4"), "whatever").unwrap();
    let output = place
        .program(&["in.mp4", "-o", "out.mp4"])
        .env("PATH", place.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(
        errors.contains("in.mp4: ffprobe is not on the PATH: install it"),
        "{errors}"
    );
    assert!(
        errors.contains("extract the frames into a folder"),
        "{errors}"
    );
    assert_eq!(place.names(), ["in.mp4"]);
}

#[test]
fn a_result_that_is_no_video_is_refused() {
    let place = Place::new();
    fs::write(place.path("in.mp4"), "whatever").unwrap();
    for output in ["out.png", "out.avi"] {
        let refused = place.refused(&["in.mp4", "-o", output]);
        assert!(
            refused.contains("expected mp4, m4v, mov, mkv or webm"),
            "{refused}"
        );
    }
}
