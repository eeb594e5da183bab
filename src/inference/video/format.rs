//! Which files are videos, and how results are encoded.

use std::ffi::OsStr;
use std::path::Path;

/// A container that results are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// MPEG-4, with H.264.
    Mp4,
    /// QuickTime, with H.264.
    Mov,
    /// Matroska, with H.264: holds about any audio and subtitles.
    Matroska,
    /// WebM, with VP9.
    WebM,
}

/// The extensions of videos, and the container of their results where only a folder is named.
const EXTENSIONS: [(&str, Container); 17] = [
    ("mp4", Container::Mp4),
    ("m4v", Container::Mp4),
    ("mov", Container::Mov),
    ("mkv", Container::Matroska),
    ("webm", Container::WebM),
    ("avi", Container::Matroska),
    ("mpg", Container::Matroska),
    ("mpeg", Container::Matroska),
    ("ts", Container::Matroska),
    ("mts", Container::Matroska),
    ("m2ts", Container::Matroska),
    ("wmv", Container::Matroska),
    ("asf", Container::Matroska),
    ("flv", Container::Matroska),
    ("ogv", Container::Matroska),
    ("3gp", Container::Matroska),
    ("3g2", Container::Matroska),
];

/// How many of [`EXTENSIONS`], the first, name a result.
const WRITTEN: usize = 5;

/// ffmpeg's names of the containers that are read.
pub(super) const DEMUXERS: &str = "mov,matroska,avi,mpeg,mpegts,asf,flv,ogg";

/// The extensions of results, for messages.
pub(super) const LIST: &str = "mp4, m4v, mov, mkv or webm";

/// Whether `path`'s extension, in upper or lower case, is that of a video.
pub fn is_video(path: &Path) -> bool {
    position(path).is_some()
}

fn position(path: &Path) -> Option<usize> {
    let extension = path.extension().and_then(OsStr::to_str)?;
    EXTENSIONS
        .iter()
        .position(|(known, _)| extension.eq_ignore_ascii_case(known))
}

/// How a subtitle gets into the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subtitle {
    /// As it is.
    Copy,
    /// As text in this codec.
    Convert(&'static str),
    /// Not at all.
    Leave,
}

impl Container {
    /// The container that the extension of a result means.
    pub fn of_path(path: &Path) -> Option<Self> {
        let at = position(path)?;
        (at < WRITTEN).then(|| EXTENSIONS[at].1)
    }

    /// The extension of the result in a folder, if not the video's own.
    pub(super) fn other_extension(video: &Path) -> Option<&'static str> {
        position(video)
            .is_none_or(|at| at >= WRITTEN)
            .then_some("mkv")
    }

    /// ffmpeg's name.
    pub(super) fn muxer(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::WebM => "webm",
        }
    }

    /// Whether it keeps timestamps in the time base it is told.
    pub(super) fn keeps_time_base(self) -> bool {
        matches!(self, Self::Mp4 | Self::Mov)
    }

    /// The flags of the video encoder. `quality` is 1 to 100: of H.264, 97 is the constant rate factor 15 and 75 is x264's
    /// own default, 23; of VP9 they are 21 and 31.
    pub(super) fn encoder(self, quality: u8) -> Vec<String> {
        let loss = 100.0 - f64::from(quality.clamp(1, 100));
        let flags = |flags: &str| flags.split(' ').map(String::from).collect();
        match self {
            Self::WebM => {
                let factor = (20.0 + loss * 43.0 / 99.0).round();
                flags(&format!("-c:v libvpx-vp9 -b:v 0 -crf {factor} -row-mt 1"))
            }
            _ => {
                let factor = (14.0 + loss * 37.0 / 99.0).round();
                flags(&format!("-c:v libx264 -preset medium -crf {factor}"))
            }
        }
    }

    /// Whether the encoder takes sides of an odd number of pixels.
    pub(super) fn takes_odd_sides(self) -> bool {
        self == Self::WebM
    }

    /// What becomes of a subtitle in ffmpeg's `codec`.
    pub(super) fn subtitle(self, codec: &str) -> Subtitle {
        let text = ["mov_text", "subrip", "ass", "ssa", "webvtt", "text"].contains(&codec);
        let own = match self {
            Self::Mp4 | Self::Mov => "mov_text",
            Self::Matroska => "subrip",
            Self::WebM => "webvtt",
        };
        match self {
            _ if codec == own => Subtitle::Copy,
            Self::Matroska if codec != "mov_text" => Subtitle::Copy,
            _ if text => Subtitle::Convert(own),
            _ => Subtitle::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn videos_are_known_by_extension() {
        for name in ["a.mp4", "a.MOV", "a.b.mkv", "x/a.WebM", "a.avi"] {
            assert!(is_video(Path::new(name)), "{name}");
        }
        for name in ["a.png", "mp4", ".mp4", "a.mp4.frames", "a.gif"] {
            assert!(!is_video(Path::new(name)), "{name}");
        }
        assert_eq!(Container::of_path(Path::new("a.M4V")), Some(Container::Mp4));
        assert_eq!(Container::of_path(Path::new("a.avi")), None);
        assert_eq!(Container::other_extension(Path::new("a.avi")), Some("mkv"));
        assert_eq!(Container::other_extension(Path::new("a.webm")), None);
    }

    #[test]
    fn quality_is_a_rate_factor() {
        let factor = |container: Container, quality| {
            let flags = container.encoder(quality);
            let at = flags.iter().position(|flag| flag == "-crf").unwrap();
            flags[at + 1].clone()
        };
        let factors = |container| [1, 75, 97, 100].map(|quality| factor(container, quality));
        assert_eq!(factors(Container::Mp4), ["51", "23", "15", "14"]);
        assert_eq!(factors(Container::WebM), ["63", "31", "21", "20"]);
    }

    #[test]
    fn subtitles_stay_text_or_are_left_out() {
        use Subtitle::{Convert, Copy, Leave};
        assert_eq!(Container::Mp4.subtitle("mov_text"), Copy);
        assert_eq!(Container::Mp4.subtitle("subrip"), Convert("mov_text"));
        assert_eq!(Container::Mp4.subtitle("hdmv_pgs_subtitle"), Leave);
        assert_eq!(Container::Matroska.subtitle("hdmv_pgs_subtitle"), Copy);
        assert_eq!(Container::Matroska.subtitle("mov_text"), Convert("subrip"));
        assert_eq!(Container::WebM.subtitle("ass"), Convert("webvtt"));
    }
}
