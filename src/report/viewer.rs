//! Before and after: a picture blurred, restored and sharp, with a divide that moves, zoom and the differences.

use image::RgbImage;
use maud::{Markup, html};

use super::picture::{LONGEST, fitted, jpeg_address};
use crate::error::{Error, Result};

/// The three states of an image, all of the same size.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// The input.
    pub blurred: RgbImage,
    /// What the model makes of it.
    pub restored: RgbImage,
    /// The target.
    pub sharp: RgbImage,
}

impl Pictures {
    fn check(&self, name: &str) -> Result<()> {
        let expected = self.sharp.dimensions();
        for (what, image) in [("blurred", &self.blurred), ("restored", &self.restored)] {
            if image.dimensions() != expected {
                return Err(Error::Shape {
                    what: format!("{what} picture of {name} (width, height)"),
                    found: vec![image.width() as usize, image.height() as usize],
                    expected: format!("the sharp one's {expected:?}"),
                });
            }
        }
        Ok(())
    }
}

/// The viewer of `pictures` of the image `name`.
pub(super) fn viewer(name: &str, pictures: &Pictures) -> Result<Markup> {
    pictures.check(name)?;
    let (full_width, full_height) = pictures.sharp.dimensions();
    let (width, height) = fitted(&pictures.sharp).dimensions();
    let figure = |class: &str, caption: &str, picture: &RgbImage| -> Result<Markup> {
        let address = jpeg_address(&fitted(picture))?;
        Ok(html! {
            figure class=(class) {
                img alt={ (caption) ": " (name) } width=(width) height=(height) src=(address);
                figcaption { (caption) }
            }
        })
    };
    Ok(html! {
        div .viewer data-view="restored" style={ "--width: " (width) "; --height: " (height) } {
            div .controls hidden {
                div .group role="group" aria-label="What to compare" {
                    button type="button" data-view="restored" aria-pressed="true" { "Blurred | restored" }
                    button type="button" data-view="sharp" aria-pressed="false" { "Restored | sharp" }
                    button type="button" data-view="difference" aria-pressed="false" { "Differences to sharp" }
                }
                div .group role="group" aria-label="Zoom" {
                    button type="button" data-zoom="out" aria-label="Zoom out" { "−" }
                    output .scale aria-label="Scale" { "100 %" }
                    button type="button" data-zoom="in" aria-label="Zoom in" { "+" }
                    button type="button" data-zoom="fit" { "Fit" }
                }
                label .amplify hidden {
                    "Amplified " input type="range" min="1" max="16" value="4"; " " output { "4×" }
                }
            }
            div .stage tabindex="0" role="group" aria-label={ (name) ": plus and minus zoom, arrows move" } {
                div .layers {
                    (figure("blurred", "Blurred", &pictures.blurred)?)
                    (figure("restored", "Restored", &pictures.restored)?)
                    (figure("sharp", "Sharp", &pictures.sharp)?)
                }
                span .tag.left hidden { "Blurred" }
                span .tag.right hidden { "Restored" }
                span .handle hidden {}
            }
            label .divide hidden {
                span .unseen { "Divide between left and right picture" }
                input type="range" min="0" max="100" step="0.5" value="50";
            }
            @if (full_width, full_height) != (width, height) {
                p .quiet {
                    "Shown smaller, " (width) "×" (height) " of " (full_width) "×" (full_height)
                    " pixels: the page keeps sides of at most " (LONGEST) "."
                }
            }
        }
    })
}
