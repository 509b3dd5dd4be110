//! `corelog top`: a broker at a glance, from its admin server's `/metrics` and `/latency`.
//!
//! `picture` makes one look, `screen` draws it. Nothing is measured here: rates are differences of the broker's own counters.

mod picture;
mod screen;

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::admin::{AdminError, get};
use super::arguments::Top;
use super::table::json_text;
use picture::{Look, Picture};
use screen::Screen;

/// How soon a key is heard.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Runs the command. Returns what it prints: nothing, if it drew on the terminal.
pub fn run(options: &Top) -> Result<String, AdminError> {
    let interval = Duration::from_secs(options.interval);
    if options.once || options.admin.json {
        let first = look(options)?;
        sleep(interval);
        let picture = Picture::between(&first, &look(options)?);
        return Ok(if options.admin.json {
            json_text(&picture.to_json())
        } else {
            screen::text(options.admin.admin.to_string(), &picture)
        });
    }
    let mut terminal = ratatui::try_init().map_err(AdminError::Terminal)?;
    let watched = watch(options, interval, &mut terminal);
    ratatui::restore();
    watched.map(|()| String::new())
}

fn look(options: &Top) -> Result<Look, AdminError> {
    Ok(Look {
        metrics: get(&options.admin.admin, "/metrics?format=json")?,
        latency: get(&options.admin.admin, "/latency")?,
    })
}

/// Looks and draws until a key ends it. A broker that does not answer is told of, and asked again.
fn watch(
    options: &Top,
    interval: Duration,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), AdminError> {
    // One that is not there at the beginning is a slip on the command line.
    let mut before = look(options)?;
    let mut screen = Screen::new(options.admin.admin.to_string());
    let mut due = now();
    loop {
        if now() >= due && !screen.is_paused {
            due = now() + interval;
            match look(options) {
                Ok(look) => {
                    screen.show(Picture::between(&before, &look));
                    before = look;
                }
                Err(error) => screen.fail(error.to_string()),
            }
        }
        terminal.draw(|frame| screen.draw(frame)).map_err(AdminError::Terminal)?;
        match pressed().map_err(AdminError::Terminal)? {
            Some(KeyCode::Char('q') | KeyCode::Esc) => return Ok(()),
            Some(KeyCode::Char('p')) => screen.is_paused = !screen.is_paused,
            _ => {}
        }
    }
}

/// The key that is pressed within a moment. Control-C is `q`: the terminal sends no signal while it is drawn on.
fn pressed() -> std::io::Result<Option<KeyCode>> {
    if !event::poll(KEY_WAIT)? {
        return Ok(None);
    }
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => {
            let is_interrupt =
                key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            Some(if is_interrupt { KeyCode::Char('q') } else { key.code })
        }
        _ => None,
    })
}

#[allow(clippy::disallowed_methods, reason = "a command line may wait")]
fn sleep(interval: Duration) {
    std::thread::sleep(interval);
}

#[allow(clippy::disallowed_methods, reason = "a command line has its own clock")]
fn now() -> Instant {
    Instant::now()
}
