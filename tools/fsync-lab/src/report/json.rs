//! All figures for programs.

use serde_json::{Value, json};

use corelog_measure::spread::Spread;

use crate::figures::{Figures, Measured};
use crate::fio::Parts;
use crate::flush::Verdict;
use crate::plan::Load;
use crate::recommend::UNKNOWABLE;
use crate::strategy::Strategy;

use super::Report;

/// The layout of this document; raised when a reader would have to change.
const FORMAT: u32 = 1;

pub fn text(report: &Report) -> String {
    let document = document(report);
    serde_json::to_string_pretty(&document).expect("a tree of plain values can be written") + "\n"
}

fn document(report: &Report) -> Value {
    let host = &report.host;
    let devices = match &host.devices {
        Ok(devices) => json!({
            "way": devices.way,
            "disks": devices.disks.iter().zip(&host.queues).map(|(disk, queue)| json!({
                "name": disk.name,
                "write_cache": queue.write_cache,
                "fua": queue.fua,
                "rotational": queue.rotational,
                "scheduler": queue.scheduler,
                "logical_block_bytes": queue.logical_block_bytes,
            })).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "unknown": error.to_string() }),
    };
    json!({
        "format": FORMAT,
        "tool": "corelog-fsync-lab",
        "version": env!("CARGO_PKG_VERSION"),
        "when": host.when_text(),
        "set": report.plan.name,
        "repetitions": report.plan.repetitions,
        "seconds": report.seconds,
        "host": {
            "kernel": host.kernel,
            "cpus": host.cpus,
            "cpu_model": host.cpu_model,
            "path": host.path,
            "file_system": host.file_system,
            "mount_point": host.mount_point,
            "mount_options": host.mount_options,
            "devices": devices,
        },
        "flush": {
            "verdict": verdict_name(report.verdict),
            "text": report.verdict.to_string(),
            "times": report.flush_times.iter().map(|time| json!({
                "overwritten_bytes": time.overwritten_bytes,
                "flush_us": spread(time.flush_us),
            })).collect::<Vec<_>>(),
        },
        "fio": report.fio.iter().map(|fio| json!({
            "cache": fio.cache.name(),
            "ours": parts(fio.ours),
            "fio": parts(fio.theirs),
            "difference_percent": fio.difference_percent(),
        })).collect::<Vec<_>>(),
        "others": report.crowd.map(|crowd| json!({
            "cpus": crowd.cpus,
            "cpus_used": crowd.others,
            "cpus_stolen": crowd.stolen,
        })),
        "recommendation": report.recommendation.as_ref().map(|recommendation| json!({
            "text": recommendation.sentences,
            "log.write.path": recommendation.write_path.name(),
            "journal.bypass.bytes": recommendation.bypass_bytes,
        })),
        "cannot_know": UNKNOWABLE,
        "cells": report.results.cells.iter().map(measured).collect::<Vec<_>>(),
    })
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::AboutNothing => "about-nothing",
        Verdict::NotSent => "not-sent",
        Verdict::Real => "real",
        Verdict::Memory => "memory",
        Verdict::Unknown => "unknown",
    }
}

fn measured(measured: &Measured) -> Value {
    let cell = measured.cell;
    let (cache, space, sync) = match cell.strategy {
        Strategy::Journal => (None, None, None),
        Strategy::PerFile { cache, space, sync } => {
            (Some(cache.name()), Some(space.name()), Some(sync.name()))
        }
    };
    let mut value = json!({
        "strategy": cell.strategy.to_string(),
        "cache": cache,
        "space": space,
        "sync": sync,
        "files": cell.files,
        "group_bytes": cell.group_bytes,
        "depth": cell.depth,
        "load": match cell.load { Load::Closed => "closed", Load::Open { .. } => "open" },
    });
    let more = match &measured.outcome {
        Ok(figures) => figures_value(figures),
        Err(reason) => json!({ "skipped": reason }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn figures_value(figures: &Figures) -> Value {
    json!({
        "runs": figures.runs,
        "commits": figures.commits,
        "commits_per_second": spread(figures.commits_per_second),
        "megabytes_per_second": figures.megabytes_per_second,
        "latency_us": {
            "p50": figures.latency_us.p50,
            "p90": figures.latency_us.p90,
            "p99": figures.latency_us.p99,
            "p99.9": figures.latency_us.p999,
            "max": figures.latency_us.max,
        },
        "p50_us": spread(figures.p50_us),
        "p99_us": spread(figures.p99_us),
        "write_p50_us": figures.write_p50_us,
        "sync_p50_us": figures.sync_p50_us,
        "device_per_commit": figures.device.map(|device| json!({
            "writes": device.writes,
            "flushes": device.flushes,
            "kib": device.kib,
        })),
        "cpu_us_per_commit": figures.cpu_us,
        "offered_per_second": figures.offered,
        "ended_early": figures.ended_early,
        "is_saturated": figures.is_saturated,
    })
}

fn spread(spread: Spread) -> Value {
    json!({ "median": spread.median, "low": spread.low, "high": spread.high })
}

fn parts(parts: Parts) -> Value {
    json!({ "write_p50_us": parts.write_p50_us, "sync_p50_us": parts.sync_p50_us, "sum_us": parts.sum() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_cell_is_there_with_figures_or_a_reason() {
        let report = sample::report(false);
        let value: Value = serde_json::from_str(&text(&report)).unwrap();
        let cells = value["cells"].as_array().unwrap();
        assert_eq!(cells.len(), report.plan.cells.len());
        for cell in cells {
            let is_direct = cell["cache"] != "page-cache";
            assert_eq!(cell.get("skipped").is_some(), is_direct, "{cell}");
            assert_eq!(cell.get("latency_us").is_some(), !is_direct, "{cell}");
        }
        assert_eq!(value["recommendation"]["log.write.path"], "page-cache");
        assert_eq!(value["flush"]["verdict"], "real");
        assert_eq!(value["others"]["cpus_used"], 1.5);
    }
}
