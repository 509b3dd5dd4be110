use ConfigOperation::{Append, Delete, Set, Subtract};

use super::*;
use crate::controller::tests::{apply_records, image, with_topics};
use crate::model::NodeId;

type Change = (&'static str, ConfigOperation, Option<&'static str>);

fn alteration<'a>(target: ConfigTarget<'a>, changes: &[Change]) -> ConfigAlteration<'a> {
    let changes =
        changes.iter().map(|&(name, operation, value)| ConfigChange { name, operation, value }).collect();
    ConfigAlteration { target, changes }
}

/// A node with topic `t`, which keeps `retention.ms=5`, and `min.insync.replicas=1` for all brokers.
fn setup() -> Image {
    let image = with_topics(&image(), &[("t", 1)]);
    let set = alter_configs(
        &image,
        &[alteration(ConfigTarget::Topic("t"), &[("retention.ms", Set, Some("5"))])],
        &Overrides::new(),
    );
    apply_records(&image, set.records)
}

/// The records that altering one resource comes to, or the text of the refusal.
fn check(target: ConfigTarget<'_>, changes: &[Change], expected: Result<&[(&str, Option<&str>)], &str>) {
    let decision = alter_configs(&setup(), &[alteration(target, changes)], &Overrides::new());
    let pairs: Vec<(String, Option<String>)> = decision
        .records
        .iter()
        .map(|record| match record {
            Record::Config(config) => (config.name.clone(), config.value.clone()),
            other => panic!("{other:?} is no config"),
        })
        .collect();
    let pairs: Vec<(&str, Option<&str>)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
    let result = decision.results[0].as_ref().map(|()| pairs.as_slice()).map_err(ToString::to_string);
    assert_eq!(result, expected.map_err(str::to_owned), "{target:?} {changes:?}");
}

#[test]
fn topic_configs_change_one_by_one() {
    let t = ConfigTarget::Topic("t");
    check(t, &[("retention.bytes", Set, Some("7"))], Ok(&[("retention.bytes", Some("7"))]));
    check(t, &[("retention.ms", Set, Some("5"))], Ok(&[]));
    check(t, &[("retention.ms", Delete, None)], Ok(&[("retention.ms", None)]));
    check(t, &[("no.such", Delete, None)], Ok(&[]));
    check(t, &[], Ok(&[]));
    check(
        t,
        &[("cleanup.policy", Append, Some("compact"))],
        Ok(&[("cleanup.policy", Some("delete,compact"))]),
    );
    check(t, &[("cleanup.policy", Append, Some("delete"))], Ok(&[("cleanup.policy", Some("delete"))]));
    check(t, &[("cleanup.policy", Subtract, Some("compact"))], Ok(&[("cleanup.policy", Some("delete"))]));
}

#[test]
fn topic_refusals_come_in_kafkas_order() {
    let t = ConfigTarget::Topic("t");
    let none = ConfigTarget::Topic("none");
    let bad = "Invalid value soon for configuration retention.ms: Not a number of type LONG";
    check(t, &[("retention.ms", Set, Some("soon"))], Err(bad));
    check(t, &[("retention.bytes", Set, Some("1")), ("retention.ms", Set, Some("soon"))], Err(bad));
    check(none, &[("retention.ms", Set, Some("soon"))], Err(bad));
    check(none, &[("retention.ms", Set, Some("1"))], Err("The topic 'none' does not exist."));
    check(none, &[], Err("The topic 'none' does not exist."));
    check(t, &[("no.such", Set, Some("1"))], Err("Unknown topic config name: no.such"));
    check(t, &[("retention.ms", Set, None)], Err("Null value not supported for : retention.ms"));
    check(
        t,
        &[("retention.ms", Set, Some("1")), ("retention.ms", Set, Some("2"))],
        Err("A config is given more than once: retention.ms"),
    );
    check(
        t,
        &[("retention.ms", Append, Some("1"))],
        Err("Can't APPEND to key retention.ms because its type is not LIST."),
    );
    check(ConfigTarget::Topic(""), &[], Err("Default topic resources are not allowed."));
    let name = ControllerError::InvalidTopicName {
        name: "a b".into(),
        why: crate::model::InvalidTopicName::BadCharacter,
    };
    check(ConfigTarget::Topic("a b"), &[], Err(&name.to_string()));
    let long = "x".repeat(40_000).leak();
    check(
        t,
        &[("leader.replication.throttled.replicas", Set, Some(long))],
        Err("The value of leader.replication.throttled.replicas is longer than 32767 bytes."),
    );
}

#[test]
fn broker_configs_are_this_brokers_or_all_brokers() {
    let (own, all) = (ConfigTarget::Broker("1"), ConfigTarget::Broker(""));
    for target in [own, all] {
        check(target, &[("log.retention.ms", Set, Some("9"))], Ok(&[("log.retention.ms", Some("9"))]));
        check(
            target,
            &[("num.partitions", Set, Some("3"))],
            Err("Cannot update these configs dynamically: [num.partitions]"),
        );
        check(
            target,
            &[("log.retention.ms", Set, Some("x"))],
            Err("Invalid value x for configuration log.retention.ms: Not a number of type LONG"),
        );
        check(target, &[("no.such", Set, Some("1"))], Err("Unknown broker config name: no.such"));
        check(
            target,
            &[("log.cleanup.policy", Append, Some("compact"))],
            Ok(&[("log.cleanup.policy", Some("delete,compact"))]),
        );
        check(
            target,
            &[("log.retention.ms", Append, Some("1"))],
            Err("Config value append is not allowed for config key: log.retention.ms"),
        );
    }
    check(ConfigTarget::Broker("77"), &[], Err("Unexpected broker id, expected 1, but received 77"));
    check(ConfigTarget::Broker("one"), &[], Err("Broker id must be an integer, but it is: one"));
}

#[test]
fn a_list_set_in_the_file_is_appended_to() {
    let explicit = Overrides::from([("log.cleanup.policy".to_owned(), "compact".to_owned())]);
    let change = alteration(ConfigTarget::Topic("t"), &[("cleanup.policy", Append, Some("delete"))]);
    let decision = alter_configs(&setup(), &[change], &explicit);
    let Record::Config(config) = &decision.records[0] else { panic!("{:?}", decision.records) };
    assert_eq!(config.value.as_deref(), Some("compact,delete"));
}

#[test]
fn resources_stand_alone_and_appear_once() {
    let t = alteration(ConfigTarget::Topic("t"), &[("retention.ms", Set, Some("1"))]);
    let own = alteration(ConfigTarget::Broker("1"), &[("log.retention.ms", Set, Some("x"))]);
    let decision = alter_configs(&setup(), &[t.clone(), own], &Overrides::new());
    assert_eq!(decision.results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    assert_eq!(decision.records.len(), 1);
    let decision = alter_configs(&setup(), &[t.clone(), t], &Overrides::new());
    assert_eq!(
        decision.results,
        [Err(ControllerError::DuplicateResource), Err(ControllerError::DuplicateResource)]
    );
}

#[test]
fn replacing_takes_away_what_is_not_given() {
    let image = setup();
    let replace =
        |changes: &[Change]| replace_configs(&image, &[alteration(ConfigTarget::Topic("t"), changes)]);
    let decision = replace(&[("retention.bytes", Set, Some("7"))]);
    assert_eq!(decision.results, [Ok(())]);
    let after = apply_records(&image, decision.records);
    let configs: Vec<_> =
        after.topic("t").unwrap().configs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(configs, [("retention.bytes", "7")]);
    let null = replace(&[("retention.ms", Set, None)]);
    assert_eq!(null.results, [Err(ControllerError::NullConfigs { names: vec!["retention.ms".into()] })]);
    assert_eq!(image.broker_configs(NodeId(1)).len(), 0);
}
