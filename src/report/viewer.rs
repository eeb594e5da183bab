//! Before and after: a picture blurred, restored and sharp, with a divide that moves, zoom and the differences.

use image::RgbImage;

use super::page::Page;
use super::picture::{JpegAddress, LONGEST, fitted};
use crate::drawing::Escaped;
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

/// Puts `pictures` of the image `name` on the page. Each is encoded, written and forgotten before the next.
pub(super) fn put(page: &mut Page, name: &str, pictures: &Pictures) -> Result<()> {
    pictures.check(name)?;
    let (width, height) = fitted(&pictures.sharp).dimensions();
    let name_text = Escaped(name);
    page.put(format_args!(
        "<div class=\"viewer\" data-view=\"restored\" style=\"--width: {width}; --height: {height}\">\n\
         <div class=\"controls\" hidden>\n\
         <div class=\"group\" role=\"group\" aria-label=\"What to compare\">\
         <button type=\"button\" data-view=\"restored\" aria-pressed=\"true\">Blurred | restored</button>\
         <button type=\"button\" data-view=\"sharp\" aria-pressed=\"false\">Restored | sharp</button>\
         <button type=\"button\" data-view=\"difference\" aria-pressed=\"false\">Differences to sharp</button></div>\n\
         <div class=\"group\" role=\"group\" aria-label=\"Zoom\">\
         <button type=\"button\" data-zoom=\"out\" aria-label=\"Zoom out\">−</button>\
         <output class=\"scale\" aria-label=\"Scale\">100 %</output>\
         <button type=\"button\" data-zoom=\"in\" aria-label=\"Zoom in\">+</button>\
         <button type=\"button\" data-zoom=\"fit\">Fit</button></div>\n\
         <label class=\"amplify\" hidden>Amplified <input type=\"range\" min=\"1\" max=\"16\" value=\"4\"> <output>4×</output></label>\n\
         </div>\n\
         <div class=\"stage\" tabindex=\"0\" role=\"group\" aria-label=\"{name_text}: plus and minus zoom, arrows move\">\n<div class=\"layers\">\n"
    ))?;
    for (class, caption, image) in [
        ("blurred", "Blurred", &pictures.blurred),
        ("restored", "Restored", &pictures.restored),
        ("sharp", "Sharp", &pictures.sharp),
    ] {
        let address = JpegAddress::new(&fitted(image))?;
        page.put(format_args!(
            "<figure class=\"{class}\"><img alt=\"{caption}: {name_text}\" width=\"{width}\" height=\"{height}\" \
             src=\"{address}\"><figcaption>{caption}</figcaption></figure>\n"
        ))?;
    }
    page.put(format_args!(
        "</div>\n<span class=\"tag left\" hidden>Blurred</span><span class=\"tag right\" hidden>Restored</span>\
         <span class=\"handle\" hidden></span>\n</div>\n\
         <label class=\"divide\" hidden><span class=\"unseen\">Divide between left and right picture</span>\
         <input type=\"range\" min=\"0\" max=\"100\" step=\"0.5\" value=\"50\"></label>\n"
    ))?;
    let (full_width, full_height) = pictures.sharp.dimensions();
    if (full_width, full_height) != (width, height) {
        page.put(format_args!(
            "<p class=\"quiet\">Shown smaller, {width}×{height} of {full_width}×{full_height} pixels: the page keeps sides of at most {LONGEST}.</p>\n"
        ))?;
    }
    page.put(format_args!("</div>\n"))
}
