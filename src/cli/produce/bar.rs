//! A bar on a terminal, for an input that takes longer than a moment.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::remote::tell;
use crate::client::time::Instant;

/// Shorter inputs are done before anybody would read a bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// Clones show the same one.
#[derive(Clone)]
pub(super) struct Bar {
    shown: Arc<OnceLock<ProgressBar>>,
    /// `None` where nobody knows how much there is.
    total_bytes: Option<u64>,
    taken_bytes: u64,
    is_wanted: bool,
}

impl Bar {
    pub fn new(total_bytes: Option<u64>, is_wanted: bool) -> Bar {
        Bar { shown: Arc::default(), total_bytes, taken_bytes: 0, is_wanted }
    }

    pub fn advance(&mut self, bytes: usize, lines: u64, began: Instant) {
        self.taken_bytes += bytes as u64;
        if !self.is_wanted || began.elapsed() < BAR_AFTER {
            return;
        }
        let total_bytes = self.total_bytes;
        let bar = self.shown.get_or_init(|| {
            // Hides itself where standard error is no terminal.
            let bar = ProgressBar::with_draw_target(total_bytes, ProgressDrawTarget::stderr_with_hz(10));
            let style = match total_bytes {
                Some(_) => "sending [{bar:30}] {binary_bytes} of {binary_total_bytes}, {msg}, {binary_bytes_per_sec}, {eta} left",
                None => "sending {spinner} {binary_bytes}, {msg}, {binary_bytes_per_sec}",
            };
            bar.with_style(ProgressStyle::with_template(style).expect("the template is sound").progress_chars("=> "))
        });
        bar.set_position(self.taken_bytes);
        bar.set_message(format!("{lines} records"));
    }

    /// Says something beside the result, above the bar if there is one.
    pub fn say(&self, line: &str) {
        match self.shown.get() {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.shown.get() {
            bar.finish_and_clear();
        }
    }
}
