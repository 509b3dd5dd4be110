//! The look at the host before the start.

use corelog::model::ShardId;
use corelog::reactor::{Doorbells, ProbeError, Ring, RingOptions, probe};

#[test]
fn this_host_can_run_two_rings() {
    let facts = probe(&RingOptions::default(), 2).unwrap_or_else(|error| panic!("{error}"));
    assert!(facts.open_files_max > 0 && !facts.kernel.is_empty());
}

#[test]
fn a_table_beyond_the_limit_of_open_files_is_told_with_its_remedy() {
    let sockets_max = 1 << 20;
    let options = RingOptions { sockets_max, ..RingOptions::default() };
    match probe(&options, 1) {
        Err(error @ ProbeError::OpenFiles { .. }) => {
            assert!(error.to_string().contains("ulimit -n 1048576"), "{error}");
            let error =
                Ring::new(ShardId(0), options, Doorbells::new(1).unwrap()).err().expect("as the probe said");
            assert!(matches!(ProbeError::from_setup(error, &options, 1), ProbeError::OpenFiles { .. }));
        }
        Ok(facts) => assert!(facts.open_files_max >= u64::from(sockets_max)),
        Err(error) => panic!("{error}"),
    }
}
