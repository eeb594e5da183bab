//! The pages in a real browser: they load alone, and slider, zoom, sorting and colours work.
//!
//! `HI_DIFF_REQUIRE_CHROMIUM=1` makes a missing Chromium a failure; `HI_DIFF_SCREENSHOTS=DIR` saves pictures of the pages.
#![cfg(all(feature = "train", unix))]

mod chromium;
mod pages;

use std::path::{Path, PathBuf};

use chromium::Chromium;
use pages::{HOSTILE, brightness};
use serde_json::{Value, json};
use tempfile::TempDir;

const FIRST: &str = "article:first-child";

fn all_pages(folder: &TempDir) -> [PathBuf; 3] {
    let folder = folder.path();
    [
        pages::evaluation(folder),
        pages::training(folder),
        pages::ablation(folder),
    ]
}

#[test]
fn pages_load_alone_and_fit_every_window_and_scheme() {
    let folder = TempDir::new().unwrap();
    let pages = all_pages(&folder);
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    for page in &pages {
        let mut grounds = Vec::new();
        for (width, scheme) in [
            (360, "light"),
            (400, "dark"),
            (1400, "light"),
            (1600, "dark"),
        ] {
            browser.resize(width, 900);
            browser.prefer(scheme);
            browser.open(page);
            let complaints = browser.complaints();
            assert!(complaints.is_empty(), "{}: {complaints:#?}", page.display());
            let wide = browser.number("document.documentElement.scrollWidth");
            assert!(
                wide <= f64::from(width),
                "{}: {wide} pixels in {width}",
                page.display()
            );
            assert_eq!(browser.evaluate("window.harmed ?? null"), Value::Null);
            grounds.push(browser.text("getComputedStyle(document.body).backgroundColor"));
            save(&mut browser, page, &format!("{width}-{scheme}"));
        }
        assert_eq!(
            (&grounds[0], &grounds[1]),
            (&grounds[2], &grounds[3]),
            "by scheme only"
        );
        assert_ne!(grounds[0], grounds[1], "light and dark");
    }
}

fn save(browser: &mut Chromium, page: &Path, name: &str) {
    if let Some(folder) = std::env::var_os("HI_DIFF_SCREENSHOTS") {
        let stem = page.file_stem().unwrap().to_string_lossy();
        browser.save_picture(&Path::new(&folder).join(format!("{stem}-{name}.png")));
    }
}

fn evaluation(folder: &TempDir) -> Option<Chromium> {
    let page = pages::evaluation(folder.path());
    let mut browser = Chromium::start()?;
    browser.resize(1200, 900);
    browser.open(&page);
    Some(browser)
}

/// A property of an element as the browser computes it.
fn style(browser: &mut Chromium, selector: &str, property: &str) -> String {
    browser.text(&format!(
        "getComputedStyle(document.querySelector({selector:?})).{property}"
    ))
}

/// The transformation of an image of the first viewer: its scale, and where its corner is.
fn transform(browser: &mut Chromium, class: &str) -> [f64; 3] {
    let values = browser.evaluate(&format!(
        "(() => {{ const m = new DOMMatrix(getComputedStyle(document.querySelector('{FIRST} .{class} img')).transform); return [m.a, m.e, m.f]; }})()"
    ));
    std::array::from_fn(|index| values[index].as_f64().unwrap())
}

#[test]
fn the_divide_moves_by_mouse_and_keyboard() {
    let folder = TempDir::new().unwrap();
    let Some(mut browser) = evaluation(&folder) else {
        return;
    };
    let blurred = format!("{FIRST} .blurred");
    assert_eq!(
        style(&mut browser, &blurred, "clipPath"),
        "inset(0px 50% 0px 0px)"
    );
    browser.drag(&format!("{FIRST} .stage"), (0.5, 0.4), (0.25, 0.6));
    let clip = style(&mut browser, &blurred, "clipPath");
    let hidden: f64 = clip
        .strip_prefix("inset(0px ")
        .unwrap()
        .split('%')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((hidden - 75.0).abs() < 0.5, "{clip}");

    browser.evaluate(&format!(
        "document.querySelector('{FIRST} .divide input').focus()"
    ));
    browser.press("ArrowRight", 39);
    let moved = style(&mut browser, &blurred, "clipPath");
    assert_ne!(moved, clip);
    browser.press("End", 35);
    assert_eq!(
        style(&mut browser, &blurred, "clipPath"),
        "inset(0px 0% 0px 0px)"
    );
    assert!(browser.complaints().is_empty());
}

#[test]
fn both_sides_zoom_and_move_together() {
    let folder = TempDir::new().unwrap();
    let Some(mut browser) = evaluation(&folder) else {
        return;
    };
    let stage = format!("{FIRST} .stage");
    assert_eq!(transform(&mut browser, "restored"), [1.0, 0.0, 0.0]);
    browser.click(&format!("{FIRST} [data-zoom=in]"));
    assert_eq!(transform(&mut browser, "restored")[0], 1.5);
    browser.wheel(&stage, -240.0, true);
    let zoomed = transform(&mut browser, "restored");
    assert!(zoomed[0] > 2.5, "{zoomed:?}");

    browser.drag(&stage, (0.2, 0.3), (0.3, 0.2));
    let moved = transform(&mut browser, "restored");
    let width = browser.number(&format!("document.querySelector('{stage}').clientWidth"));
    assert!(
        (moved[1] - zoomed[1] - 0.1 * width).abs() < 2.0,
        "{zoomed:?} to {moved:?} of {width}"
    );
    assert!(moved[2] < zoomed[2], "{zoomed:?} to {moved:?}");
    assert_eq!(transform(&mut browser, "blurred"), moved);
    browser.click(&format!("{FIRST} button[data-view=sharp]"));
    assert_eq!(transform(&mut browser, "sharp"), moved);

    browser.evaluate(&format!("document.querySelector('{stage}').focus()"));
    browser.press("-", 189);
    assert!(transform(&mut browser, "restored")[0] < moved[0]);
    browser.press("0", 48);
    assert_eq!(transform(&mut browser, "restored"), [1.0, 0.0, 0.0]);
    browser.wheel(&stage, 240.0, false);
    browser.wheel(&stage, -240.0, false);
    assert_eq!(
        transform(&mut browser, "restored"),
        [1.0, 0.0, 0.0],
        "the wheel alone is the page's"
    );
    assert!(browser.complaints().is_empty());
}

#[test]
fn differences_are_dark_where_an_image_is_right() {
    let folder = TempDir::new().unwrap();
    let Some(mut browser) = evaluation(&folder) else {
        return;
    };
    browser.click("[data-order=gains]");
    let gain = browser.text(&format!("document.querySelector('{FIRST}').dataset.gain"));
    assert_eq!(gain, "inf", "the image that is restored exactly");
    let stage = format!("{FIRST} .stage");
    let usual = browser.picture(&stage);
    assert!(brightness(&usual, 0.6, 0.9) > 30.0);

    browser.click(&format!("{FIRST} button[data-view=difference]"));
    assert_eq!(
        style(&mut browser, &format!("{FIRST} .sharp"), "mixBlendMode"),
        "difference"
    );
    let picture = browser.picture(&stage);
    let (before, after) = (
        brightness(&picture, 0.1, 0.4),
        brightness(&picture, 0.6, 0.9),
    );
    assert!(after < 0.5, "restored less sharp: {after}");
    assert!(before > 5.0, "blurred less sharp: {before}");
    save(&mut browser, Path::new("evaluation"), "differences");

    browser.evaluate(&format!(
        "document.querySelector('{FIRST} .amplify input').focus()"
    ));
    browser.press("End", 35);
    let more = brightness(&browser.picture(&stage), 0.1, 0.4);
    assert!(
        more > 1.5 * before,
        "{before} amplified 4 times, {more} 16 times"
    );
    let said = browser.text(&format!(
        "document.querySelector('{FIRST} .amplify output').textContent"
    ));
    assert_eq!(said, "16×");
    browser.click(&format!("{FIRST} button[data-view=sharp]"));
    let picture = browser.picture(&stage);
    assert!((brightness(&picture, 0.6, 0.9) - brightness(&usual, 0.6, 0.9)).abs() < 1.0);
    assert!(browser.complaints().is_empty());
}

/// A column of the table of images, by the index of its heading.
fn column(browser: &mut Chromium, index: usize) -> Vec<String> {
    let cells = browser.evaluate(&format!(
        "[...document.querySelectorAll('.sortable tbody tr')].map((row) => row.cells[{index}].dataset.value ?? row.cells[{index}].textContent)"
    ));
    let cells = cells.as_array().unwrap().iter();
    cells
        .map(|cell| cell.as_str().unwrap().to_string())
        .collect()
}

#[test]
fn the_table_sorts_by_each_column_and_filters() {
    let folder = TempDir::new().unwrap();
    let Some(mut browser) = evaluation(&folder) else {
        return;
    };
    let sorted = |browser: &mut Chromium, index: usize| -> String {
        browser.text(&format!(
            "document.querySelectorAll('.sortable th[aria-sort]')[{index}].ariaSort"
        ))
    };
    // Dataset, name, then numbers: PSNR before and after, gain, SSIM before and after, size, time.
    for index in [2, 3, 4, 5, 6, 8] {
        let heading = format!(".sortable th:nth-child({}) button", index + 1);
        for order in ["ascending", "descending"] {
            browser.click(&heading);
            assert_eq!(sorted(&mut browser, index), order);
            let cells = column(&mut browser, index);
            let mut values: Vec<f64> = cells.iter().map(|cell| cell.parse().unwrap()).collect();
            if order == "descending" {
                values.reverse();
            }
            assert!(values.is_sorted(), "{order} by {index}: {values:?}");
            assert!(values[0] < values[values.len() - 1], "{values:?}");
        }
    }
    browser.click(".sortable th:nth-child(2) button");
    assert_eq!(
        (sorted(&mut browser, 4), sorted(&mut browser, 1)),
        ("none".into(), "ascending".into())
    );
    let names = column(&mut browser, 1);
    assert!(names[0].starts_with(HOSTILE), "{names:?}");
    assert_eq!(names.len(), 13 + 4);

    let losses_first = "[...document.querySelectorAll('article')].map((article) => article.dataset.gain).filter((gain) => gain !== 'inf').map(Number)";
    let gains = browser.evaluate(losses_first);
    let gains: Vec<f64> = gains
        .as_array()
        .unwrap()
        .iter()
        .map(|gain| gain.as_f64().unwrap())
        .collect();
    assert!(gains.is_sorted() && gains[0] < 0.0, "{gains:?}");

    browser.evaluate("(() => { const select = document.querySelector('#filter select'); select.value = '1'; select.dispatchEvent(new Event('change')); })()");
    let shown = "[...document.querySelectorAll('[data-dataset]')].filter((part) => part.offsetParent !== null).map((part) => part.dataset.dataset)";
    assert_eq!(
        browser.evaluate(shown),
        json!(vec!["1"; 8]),
        "four pictures and four rows of HIDE"
    );
    assert!(browser.complaints().is_empty());
}

#[test]
fn a_hostile_name_is_text_and_the_page_reads_without_its_script() {
    let folder = TempDir::new().unwrap();
    let pages = all_pages(&folder);
    let Some(mut browser) = Chromium::start() else {
        return;
    };
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({"value": true}),
    );
    browser.resize(900, 900);
    for page in &pages {
        browser.open(page);
        save(&mut browser, page, "without-script");
        let shown = browser.evaluate(
            "[...document.querySelectorAll('img')].every((image) => image.naturalWidth > 0 && image.offsetHeight > 50)",
        );
        assert_eq!(shown, true, "{}", page.display());
        let parts = "document.querySelectorAll('table').length > 0 && document.querySelectorAll('svg').length > 0";
        assert_eq!(browser.evaluate(parts), true, "{}", page.display());
        let hidden = "[...document.querySelectorAll('.controls, .toolbar, .divide')].every((part) => part.offsetParent === null)";
        assert_eq!(browser.evaluate(hidden), true, "{}", page.display());
    }
    browser.open(&pages[0]);
    let titles = browser
        .evaluate("[...document.querySelectorAll('article h3')].map((title) => title.textContent)");
    let titles = titles.as_array().unwrap();
    assert!(
        titles.contains(&json!(format!("HIDE: {HOSTILE}"))),
        "{titles:?}"
    );
    assert_eq!(browser.number("document.scripts.length"), 1.0);
    assert_eq!(
        browser.evaluate("document.querySelector('img[onerror]')"),
        Value::Null
    );
}
