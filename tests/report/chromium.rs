//! A headless Chromium, driven over its DevTools pipe: JSON messages that end with a zero byte, on descriptors 3 and 4.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// For a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(120);

/// The browser, with one page open.
pub struct Chromium {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    sent: u64,
    _profile: TempDir,
}

impl Chromium {
    /// None, said on standard error, where there is no Chromium; then `HI_DIFF_REQUIRE_CHROMIUM` makes that a failure.
    pub fn start() -> Option<Self> {
        let works = |name: &&str| {
            let mut command = Command::new(name);
            command
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let Some(name) = NAMES.into_iter().find(works) else {
            let required = std::env::var_os("HI_DIFF_REQUIRE_CHROMIUM").is_some();
            assert!(!required, "none of {NAMES:?} is on the PATH");
            // Not by `eprintln!`, which the test harness keeps to itself.
            let skipped =
                format!("SKIPPED: none of {NAMES:?} is on the PATH, so no page is opened\n");
            std::io::stderr().write_all(skipped.as_bytes()).ok();
            return None;
        };
        let profile = TempDir::new().unwrap();
        let mut process = Command::new("sh")
            .args([
                "-c",
                "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
            ])
            .arg(name)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                if sender
                    .send(serde_json::from_slice(&message).unwrap())
                    .is_err()
                {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            input: process.stdin.take().unwrap(),
            process,
            messages,
            events: VecDeque::new(),
            session: None,
            sent: 0,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_string);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// A DevTools method's result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let bytes = [message.to_string().as_bytes(), &[0]].concat();
        self.input.write_all(&bytes).unwrap();
        loop {
            let message = self.message(method);
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push_back(message);
        }
    }

    fn message(&self, awaited: &str) -> Value {
        let message = self.messages.recv_timeout(PATIENCE);
        message.unwrap_or_else(|error| panic!("waiting for {awaited}: {error}"))
    }

    /// Opens a file and forgets what was before.
    pub fn open(&mut self, path: &Path) {
        self.events.clear();
        let url = format!("file://{}", path.display());
        let result = self.call("Page.navigate", json!({"url": url}));
        assert!(result["errorText"].is_null(), "{url}: {result}");
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.message("the page");
            self.events.push_back(event);
        }
    }

    /// What a page must not do, since it was opened: errors, warnings, and requests besides the page's own. Data
    /// addresses are no requests.
    pub fn complaints(&mut self) -> Vec<String> {
        self.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))");
        let mut requests = 0;
        let mut complaints = Vec::new();
        for event in &self.events {
            let parameters = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" | "Log.entryAdded" => {
                    complaints.push(parameters.to_string())
                }
                "Runtime.consoleAPICalled" => complaints.push(parameters.to_string()),
                "Network.requestWillBeSent" => {
                    let url = parameters["request"]["url"].as_str().unwrap_or_default();
                    if !url.starts_with("data:") {
                        requests += 1;
                        if requests > 1 || !url.starts_with("file://") {
                            complaints.push(format!("request of {url}"));
                        }
                    }
                }
                _ => {}
            }
        }
        complaints
    }

    /// The value of a JavaScript expression, awaited if it is a promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", parameters);
        let exception = &result["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception}");
        result["result"]["value"].clone()
    }

    pub fn number(&mut self, expression: &str) -> f64 {
        let value = self.evaluate(expression);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    pub fn text(&mut self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_string()
    }

    /// In CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    /// Scrolls to the first element that `selector` finds; left, top, width and height in the window.
    fn place(&mut self, selector: &str) -> [f64; 4] {
        let place = self.evaluate(&format!(
            "(() => {{ const part = document.querySelector({selector:?}); part.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
             const box = part.getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; }})()"
        ));
        let values = place.as_array().unwrap();
        std::array::from_fn(|index| values[index].as_f64().unwrap())
    }

    fn mouse(&mut self, kind: &str, at: (f64, f64), more: Value) {
        let mut event = json!({"type": kind, "x": at.0, "y": at.1, "button": "left", "buttons": 1, "clickCount": 1});
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.call("Input.dispatchMouseEvent", event);
    }

    pub fn click(&mut self, selector: &str) {
        self.drag(selector, (0.5, 0.5), (0.5, 0.5));
    }

    /// Drags with the mouse between two places of an element, as shares of its sides.
    pub fn drag(&mut self, selector: &str, from: (f64, f64), to: (f64, f64)) {
        let [x, y, width, height] = self.place(selector);
        let at = |share: (f64, f64)| (x + share.0 * width, y + share.1 * height);
        self.mouse("mouseMoved", at(from), json!({"buttons": 0}));
        self.mouse("mousePressed", at(from), json!({}));
        if from != to {
            self.mouse("mouseMoved", at(to), json!({}));
        }
        self.mouse("mouseReleased", at(to), json!({"buttons": 0}));
    }

    /// Turns the wheel over an element's middle, with Ctrl or without.
    pub fn wheel(&mut self, selector: &str, delta: f64, ctrl: bool) {
        let [x, y, width, height] = self.place(selector);
        let modifiers = if ctrl { 2 } else { 0 };
        let wheel = json!({"deltaX": 0, "deltaY": delta, "modifiers": modifiers, "button": "none", "buttons": 0});
        self.mouse("mouseWheel", (x + width / 2.0, y + height / 2.0), wheel);
    }

    /// Presses a key, named as in JavaScript's `KeyboardEvent`, where the focus is.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// What an element looks like.
    pub fn picture(&mut self, selector: &str) -> image::RgbImage {
        let [x, y, width, height] = self.place(selector);
        let scroll = self.evaluate("[scrollX, scrollY]");
        let clip = json!({
            "x": x + scroll[0].as_f64().unwrap(), "y": y + scroll[1].as_f64().unwrap(),
            "width": width, "height": height, "scale": 1
        });
        let bytes = self.screenshot(json!({"format": "png", "clip": clip}));
        image::load_from_memory(&bytes).unwrap().into_rgb8()
    }

    /// Saves the whole page as a picture, for people to look at.
    pub fn save_picture(&mut self, path: &Path) {
        self.evaluate("scrollTo(0, 0)");
        let height = self.number("document.documentElement.scrollHeight");
        let width = self.number("innerWidth");
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let options = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        fs::write(path, self.screenshot(options)).unwrap();
    }

    fn screenshot(&mut self, options: Value) -> Vec<u8> {
        use base64::Engine;
        let result = self.call("Page.captureScreenshot", options);
        let data = result["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
