//! HEIC and AVIF: read by builds with their features, and named by those without.

use std::fs;
use std::path::{Path, PathBuf};

use hi_diff::picture::{Limits, Photograph};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/heif");
    folder.join(name)
}

fn refusal(name: &str, bytes: &[u8], limits: &Limits) -> String {
    let refused = Photograph::decode(bytes, name, limits);
    refused.map(|_| name).unwrap_err().to_string()
}

#[test]
fn without_its_feature_a_photograph_is_refused_by_the_features_name() {
    for (name, feature, on) in [
        ("tiles-turned.heic", "heic", cfg!(feature = "heic")),
        ("tiles-turned.avif", "avif", cfg!(feature = "avif")),
    ] {
        let bytes = fs::read(fixture(name)).unwrap();
        if on {
            assert!(Photograph::decode(&bytes, name, &Limits::default()).is_ok());
            continue;
        }
        let said = refusal(name, &bytes, &Limits::default());
        let words = ["expected PNG", "convert it", "--features", feature, name];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[cfg(any(feature = "heic", feature = "avif"))]
mod read {
    use hi_diff::picture::{Depth, EncodeOptions, Format, Tone};

    use super::*;

    /// The endings of what this build reads.
    fn kinds() -> impl Iterator<Item = &'static str> {
        let kinds = [
            (cfg!(feature = "heic"), "heic"),
            (cfg!(feature = "avif"), "avif"),
        ];
        kinds.into_iter().filter(|(on, _)| *on).map(|(_, it)| it)
    }

    fn open(name: &str) -> Photograph {
        Photograph::open(fixture(name), &Limits::default()).unwrap()
    }

    /// Asserts that the middles of the picture's quarters have these colours, the upper ones first.
    fn assert_quarters(picture: &Photograph, colours: [[u8; 3]; 4]) {
        let pixels = picture.to_rgb8();
        for (place, colour) in colours.into_iter().enumerate() {
            let (across, down) = (1 + 2 * (place as u32 % 2), 1 + 2 * (place as u32 / 2));
            let (x, y) = (across * pixels.width() / 4, down * pixels.height() / 4);
            let found = pixels.get_pixel(x, y).0;
            let near = found.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 4);
            assert!(near, "quarter {place}: {found:?} and not {colour:?}");
        }
    }

    const RED: [u8; 3] = [220, 40, 40];
    const GREEN: [u8; 3] = [40, 200, 60];
    const BLUE: [u8; 3] = [50, 60, 210];
    const YELLOW: [u8; 3] = [230, 220, 60];

    #[test]
    fn tiles_come_out_upright_as_a_jpeg_with_what_they_carried() {
        for kind in kinds() {
            let photograph = open(&format!("tiles-turned.{kind}"));
            assert_eq!((photograph.width(), photograph.height()), (72, 104));
            assert_quarters(&photograph, [RED, BLUE, GREEN, YELLOW]);
            assert_eq!(photograph.format(), Format::Jpeg);
            assert_eq!(
                photograph.icc(),
                Some(b"not a profile, but kept".as_slice())
            );

            let options = EncodeOptions::default();
            let (jpeg, saved) = photograph
                .to_bytes(Format::Jpeg, &options, "a.jpg")
                .unwrap();
            assert!(saved.warnings.is_empty(), "{:?}", saved.warnings);
            let holds = |what: &[u8]| jpeg.windows(what.len()).any(|found| found == what);
            // The camera was turned, and the picture is no more.
            assert!(holds(b"Exif\0\0MM\0*"));
            assert!(holds(b"\x01\x12\0\x03\0\0\0\x01\0\x01"));
            // Its XMP has no RDF, and so arrives only to be told of.
            let told = |word: &str| photograph.warnings().iter().any(|it| it.contains(word));
            assert!(told("XMP"), "{:?}", photograph.warnings());
            let again = Photograph::decode(&jpeg, "a.jpg", &Limits::default()).unwrap();
            assert_eq!((again.width(), again.height()), (72, 104));
        }
    }

    #[test]
    fn alpha_is_divided_out_and_makes_the_result_a_png() {
        for kind in kinds() {
            let photograph = open(&format!("premultiplied.{kind}"));
            assert_eq!(photograph.alpha().map(|alpha| alpha[10]), Some(100));
            assert_eq!(photograph.format(), Format::Png);
            let found = photograph.to_rgb8().get_pixel(10, 6).0;
            let near = found.iter().zip(RED).all(|(a, b)| a.abs_diff(b) <= 10);
            assert!(near, "{found:?}");
            let refused = photograph.check_format(Format::Jpeg).unwrap_err();
            assert!(refused.contains("write PNG instead"), "{refused}");
        }
    }

    #[test]
    fn gray_of_ten_bits_stays_gray_of_sixteen() {
        for kind in kinds() {
            let photograph = open(&format!("gray-10bit.{kind}"));
            assert_eq!(photograph.tone(), Tone::Gray);
            assert_eq!(photograph.depth(), Depth::Sixteen);
        }
    }

    #[test]
    fn what_is_cut_short_damaged_or_too_large_is_an_error_of_that_file() {
        for kind in kinds() {
            let name = format!("tiles-turned.{kind}");
            let whole = fs::read(fixture(&name)).unwrap();
            for length in [40, whole.len() / 2, whole.len() - 1] {
                let said = refusal(&name, &whole[..length], &Limits::default());
                assert!(said.contains(&name), "{said}");
            }
            let end = refusal(&name, &whole[..whole.len() - 1], &Limits::default());
            assert!(end.contains("cut short"), "{end}");

            let few = Limits {
                max_pixels: 72 * 104 - 1,
                ..Limits::default()
            };
            let said = refusal(&name, &whole, &few);
            assert!(said.contains("72×104 pixels are 7488"), "{said}");
        }
    }

    /// Of each byte of the boxes and some of the data, one bit at a time: pictures or errors, and no panic.
    #[test]
    fn damage_never_panics() {
        for kind in kinds() {
            let name = format!("tiles-turned.{kind}");
            let whole = fs::read(fixture(&name)).unwrap();
            for at in (0..whole.len()).step_by(5) {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                if let Err(error) = Photograph::decode(&bytes, &name, &Limits::default()) {
                    let said = error.to_string();
                    assert!(said.contains(&name), "{said}");
                    assert!(!said.contains("fault in the decoder"), "{at}: {said}");
                }
            }
        }
    }

    #[cfg(all(feature = "cli", feature = "flex"))]
    mod program {
        use assert_cmd::Command;
        use assert_cmd::assert::Assert;
        use tempfile::TempDir;

        use super::*;

        fn deblur(folder: &TempDir, arguments: &[&str]) -> Assert {
            let mut command = Command::cargo_bin("hi-diff").unwrap();
            command.current_dir(folder).args(["deblur", "--backend"]);
            command.arg("flex").args(arguments).assert()
        }

        fn said(assert: &Assert) -> String {
            String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
        }

        fn folder(files: &[(&str, &str)]) -> TempDir {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("in")).unwrap();
            for (name, from) in files {
                fs::copy(fixture(from), folder.path().join("in").join(name)).unwrap();
            }
            folder
        }

        #[test]
        fn a_folder_becomes_jpegs_and_a_damaged_file_stops_no_other() {
            for kind in kinds() {
                let turned = format!("tiles-turned.{kind}");
                let (a, b) = (format!("a.{kind}"), format!("b.{}", kind.to_uppercase()));
                let folder = folder(&[(&a, &turned), (&b, &turned)]);
                let bad = folder.path().join(format!("in/c.{kind}"));
                let whole = fs::read(fixture(&turned)).unwrap();
                fs::write(bad, &whole[..whole.len() / 2]).unwrap();

                let assert = deblur(&folder, &["in", "-o", "out"]).code(1);
                let said = said(&assert);
                assert!(said.contains(&format!("c.{kind}")), "{said}");
                for name in ["out/a.jpg", "out/b.jpg"] {
                    let path = folder.path().join(name);
                    let result = Photograph::open(path, &Limits::default()).unwrap();
                    assert_eq!(result.format(), Format::Jpeg, "{said}");
                    assert_eq!((result.width(), result.height()), (72, 104));
                }
                assert!(!folder.path().join("out/c.jpg").exists());
            }
        }

        #[test]
        fn two_photographs_of_one_name_are_told_apart_by_nobody() {
            for kind in kinds() {
                let a = format!("a.{kind}");
                let folder = folder(&[(&a, &format!("tiles-turned.{kind}"))]);
                fs::write(folder.path().join("in/a.jpg"), "").unwrap();
                let assert = deblur(&folder, &["in", "-o", "out"]).code(1);
                let said = said(&assert);
                assert!(
                    said.contains("a.jpg: 2 inputs would be written here"),
                    "{said}"
                );
            }
        }

        #[test]
        fn alpha_asks_for_a_png_which_then_is_written() {
            for kind in kinds() {
                let a = format!("a.{kind}");
                let folder = folder(&[(&a, &format!("premultiplied.{kind}"))]);
                let assert = deblur(&folder, &["in", "-o", "out"]).code(1);
                let said = said(&assert);
                assert!(said.contains("--format png") && said.contains(&a), "{said}");
                deblur(&folder, &["in", "-o", "out", "--format", "png"]).success();
                assert!(folder.path().join("out/a.png").is_file());
                let input = format!("in/{a}");
                let to_stdout = deblur(&folder, &[&input, "-o", "-"]).success();
                let written = &to_stdout.get_output().stdout;
                assert!(written.starts_with(b"\x89PNG"));
            }
        }
    }
}
