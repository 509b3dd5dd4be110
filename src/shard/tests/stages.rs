//! Where the time of requests goes, on the model: every nanosecond is some stage's.

use super::*;
use crate::metrics::{Distribution, Series, TOTAL, Timing, snapshot};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

fn series(bench: &Bench) -> Vec<Series> {
    let shards: Vec<_> = bench.shards.iter().map(|(shard, ..)| shard.meter().metrics()).collect();
    snapshot(&shards)
}

/// The stages of one class, by name; its labels are the values of the labels before `stage`.
fn stages(series: &[Series], timing: Timing, class: &[&str]) -> Vec<(String, Distribution)> {
    let is_of_class = |s: &&Series| {
        let labels = s.labels.iter().filter(|(label, _)| *label != "stage").map(|(_, value)| value.as_str());
        s.timing == timing && labels.eq(class.iter().copied())
    };
    let of_class = series.iter().filter(is_of_class);
    of_class.map(|s| (s.label("stage").unwrap().to_owned(), s.values.clone())).collect()
}

/// Each class that was met: the sum of its stages is its total, to the nanosecond. Returns the classes' requests.
fn check_sums(series: &[Series], timing: Timing) -> u64 {
    let mut requests = 0;
    let mut sum = 0;
    for s in series.iter().filter(|s| s.timing == timing) {
        if s.label("stage") == Some(TOTAL) {
            assert_eq!(sum, s.values.sum(), "{:?}", s.labels);
            requests += s.values.count();
            sum = 0;
        } else {
            sum += s.values.sum();
        }
    }
    requests
}

fn of<'a>(stages: &'a [(String, Distribution)], stage: &str) -> &'a Distribution {
    &stages.iter().find(|(name, _)| name == stage).unwrap_or_else(|| panic!("no {stage}")).1
}

fn topic(client: &mut Client, bench: &mut Bench, name: &str, configs: &[(&str, &str)]) {
    let configs: Vec<CreatableTopicConfig<'_>> =
        configs.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topic = CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.into(),
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic].into(), timeout_ms: 30_000, ..Default::default() };
    client.make(bench, &request);
}

#[test]
fn stages_of_a_produce_add_up_and_are_told_by_durability_and_write_path() {
    for seed in 0..5 {
        let mut bench = Bench::of_seed(seed, 2, SimOptions::default());
        let mut client = bench.client();
        topic(&mut client, &mut bench, "journaled", &[("durability", "fsync"), ("write.path", "journal")]);
        topic(&mut client, &mut bench, "flushed", &[("durability", "fsync"), ("write.path", "page-cache")]);
        topic(&mut client, &mut bench, "direct", &[("durability", "fsync"), ("write.path", "direct")]);
        topic(&mut client, &mut bench, "written", &[("durability", "os")]);
        for _ in 0..20 {
            for topic in ["journaled", "flushed", "direct", "written"] {
                assert_eq!(client.produce(&mut bench, topic), Some(ErrorCode::None));
            }
        }
        // No topic has that name.
        assert_eq!(client.produce(&mut bench, "nobody's"), Some(ErrorCode::UnknownTopicOrPartition));
        // The last reply's times are published at the end of its round.
        bench.run_until(Duration::from_millis(10), |_| false);
        let series = series(&bench);
        assert_eq!(check_sums(&series, Timing::Produce), 81);
        let is_produce = |s: &&Series| s.label("api") == Some("Produce");
        let whole = &series.iter().find(is_produce).unwrap().values;
        let class = |durability, path| stages(&series, Timing::Produce, &[durability, path]);
        let mut total = 0;
        for (durability, path, count) in [
            ("fsync", "journal", 20),
            ("fsync", "page-cache", 20),
            ("fsync", "direct", 20),
            ("os", "journal", 20),
            ("none", "none", 1),
        ] {
            let stages = class(durability, path);
            assert_eq!(of(&stages, TOTAL).count(), count, "{durability} {path}");
            total += of(&stages, TOTAL).sum();
            if count > 1 {
                // What is put into a mapped journal is there at once.
                let is_mapped = (durability, path) == ("os", "journal");
                assert_eq!(of(&stages, "written").quantile(0.5) > 0, !is_mapped, "{durability} {path}");
                let is_flushed = durability == "fsync";
                assert_eq!(of(&stages, "flushed").quantile(0.5) > 0, is_flushed, "{durability} {path}");
            }
        }
        assert_eq!((total, 81), (whole.sum(), whole.count()), "the API's total is that of its classes");
        // Four partitions on two shards: a connection is on one of them.
        let crossed: u64 =
            [("fsync", "journal"), ("fsync", "page-cache"), ("fsync", "direct"), ("os", "journal")]
                .iter()
                .map(|(durability, path)| of(&class(durability, path), "mesh").sum())
                .sum();
        let hops: u64 = series.iter().filter(|s| s.timing == Timing::Hop).map(|s| s.values.count()).sum();
        assert!(crossed > 0 && hops >= 40, "{crossed} ns in the mesh, {hops} hops");
    }
}

#[test]
fn stages_of_a_fetch_add_up_and_the_long_poll_stands_apart() {
    for (seed, shard_count) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 2)] {
        let mut bench = Bench::of_seed(seed, shard_count, SimOptions::default());
        let (mut producer, mut reader) = (bench.client(), bench.client());
        producer.create(&mut bench, "t");
        for offset in 0..10 {
            reader.send_fetch(&bench, "t", offset, 1);
            // It waits for this long.
            bench.run_until(Duration::from_secs(1), |_| false);
            assert_eq!(producer.produce(&mut bench, "t"), Some(ErrorCode::None));
            assert_eq!(reader.fetched(&mut bench).unwrap().0, ErrorCode::None);
        }
        reader.send_fetch(&bench, "t", 0, 1);
        assert_eq!(reader.fetched(&mut bench).unwrap().0, ErrorCode::None);
        // This one waits to its end.
        reader.send_fetch(&bench, "t", 10, 1);
        assert_eq!(reader.fetched(&mut bench), Some((ErrorCode::None, 0)));
        bench.run_until(Duration::from_millis(10), |_| false);
        let series = series(&bench);
        assert_eq!(check_sums(&series, Timing::Fetch), 12);
        // The model's node has no tail cache.
        let from_disk = stages(&series, Timing::Fetch, &["disk"]);
        assert_eq!(of(&from_disk, TOTAL).count(), 11);
        let waited = of(&from_disk, "waited");
        assert!((10_000_000_000..10_200_000_000).contains(&waited.sum()), "{} ns", waited.sum());
        let rest = of(&from_disk, TOTAL).sum() - waited.sum();
        assert!(rest < 1_000_000_000, "{rest} ns beside the wait");
        assert!(of(&from_disk, "read").quantile(0.5) > 0, "a read takes time");
        let nothing = stages(&series, Timing::Fetch, &["none"]);
        assert_eq!(of(&nothing, TOTAL).count(), 1);
        assert!(of(&nothing, "waited").sum() > 9_900_000_000, "max_wait_ms is 10 s");
    }
}

/// What each shard takes for slow.
fn thresholds(bench: &Bench) -> Vec<Duration> {
    bench.shards.iter().map(|(shard, ..)| shard.slow.threshold()).collect()
}

/// Sets `slow.request.us` of this broker while it runs; `None`: as it was started.
fn set_slow_request(client: &mut Client, bench: &mut Bench, us: Option<&str>) {
    let operation = if us.is_some() { 0 } else { 1 };
    let config = AlterableConfig { name: "slow.request.us", config_operation: operation, value: us };
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "1", configs: vec![config].into() };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource].into(), ..Default::default() };
    client.send(bench, &request, 1);
    let answer = client.answer(bench).expect("it is decided");
    let (_, mut body) = decode_response_header(&answer, ApiKey::IncrementalAlterConfigs, 1).unwrap();
    let response = IncrementalAlterConfigsResponse::decode(&mut body, 1).unwrap();
    assert_eq!(response.responses.first().unwrap().error_code, 0);
}

#[test]
fn what_counts_as_slow_changes_while_the_broker_runs_and_at_its_next_start() {
    let mut bench = Bench::new(2, SimOptions::default());
    let mut client = bench.client();
    client.create(&mut bench, "t");
    let started = thresholds(&bench);
    assert_eq!(started, [Duration::from_millis(100); 2]);
    let slow =
        |bench: &Bench| bench.shards.iter().map(|(shard, ..)| shard.slow.iter().count()).sum::<usize>();
    assert_eq!(client.produce(&mut bench, "t"), Some(ErrorCode::None));
    let before = slow(&bench);
    set_slow_request(&mut client, &mut bench, Some("0"));
    assert_eq!(thresholds(&bench), [Duration::ZERO; 2]);
    assert_eq!(client.produce(&mut bench, "t"), Some(ErrorCode::None));
    // The last reply's times are published at the end of its round.
    bench.run_until(Duration::from_millis(10), |_| false);
    assert!(slow(&bench) > before, "a produce takes longer than nothing");
    set_slow_request(&mut client, &mut bench, None);
    assert_eq!(thresholds(&bench), started);
    set_slow_request(&mut client, &mut bench, Some("250"));
    let bench = bench.restart();
    assert_eq!(thresholds(&bench), [Duration::from_micros(250); 2]);
}
