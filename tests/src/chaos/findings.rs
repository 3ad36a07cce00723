//! Everything that keeps a run from being clean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::execute::{Happened, NotShown, Result};
use super::probe::Worst;
use super::report::Report;
use super::standing::Standing;
use super::watch::Seen;
use crate::oracle::Verdict;

/// The most memory that a writer may have resident, in bytes: what `docs/operations.md` says of
/// default settings.
const WRITER_MEMORY_LIMIT_BYTES: u64 = 300_000_000;
/// The same of a gateway.
const GATEWAY_MEMORY_LIMIT_BYTES: u64 = 200_000_000;

/// How many probes may overtake one on its way to Kafka, or from there to the tables: four are
/// sent a second. What is stuck until the next restart is overtaken by more. How long one takes
/// says less: with all faults at once, nothing gets through for as long as they last.
const STUCK_WHEN_OVERTAKEN_BY: u64 = 480;
/// How long after a fault's end the tables may take to be fresh, where no other fault is on.
const RECOVERED_WITHIN: Duration = Duration::from_secs(30);

/// Dead letters that may be there once more: what one lane may have had in hand when it died, and
/// beyond that one in so many.
const REPEATS_OF_ONE_DEATH: u64 = 5;
const REPEATED_ONE_IN: u64 = 10;

/// What valid batches may be answered: a status after which they arrive in the end, or nothing.
const PROMISED_ANSWERS: [&str; 7] = ["200", "408", "429", "503", "connect", "timeout", "broken"];

/// All findings of a run, a line each; none of a clean one.
pub(super) fn of(report: &Report) -> Vec<String> {
    let Report { fleet, probes, faults, seen, ended, flows, at_rest, months, verdict, .. } = report;
    let mut findings = Vec::new();
    if !verdict.is_clean() {
        findings.push("the tables are not what they must be".to_owned());
    }
    findings.extend(flows.as_ref().err().map(|stuck| format!("stuck: {stuck}")));
    let Worst { took, overtaken_to_kafka, overtaken_to_tables } = report.worst;
    if report.worst.overtaken() > STUCK_WHEN_OVERTAKEN_BY {
        findings.push(format!(
            "a probe was overtaken by {overtaken_to_kafka} on its way to Kafka, or by \
             {overtaken_to_tables} from there to the tables (the slowest took {took:?})"
        ));
    }
    if fleet.acknowledged.events == 0 {
        findings.push("the recorders got nothing through".to_owned());
    }
    if seen.complaint_count > 0 {
        findings.push(format!("accounts did not add up {} times", seen.complaint_count));
    }
    findings.extend(ended.by_themselves.iter().cloned());
    findings.extend(report.never_happened().map(|kind| format!("{kind} never happened")));
    findings.extend(unpromised("recorders", &fleet.answers));
    findings.extend(unpromised("probes", probes));
    if fleet.refused.batches > 0 {
        findings.push(format!("{} valid batches were refused", fleet.refused.batches));
    }
    for (status, count) in &fleet.refused_again {
        findings.push(format!("{count} acknowledged batches were answered {status} when resent"));
    }
    findings.extend(faults.iter().filter_map(not_recovered));
    if repeats_too_often(verdict) {
        findings.push(format!("{} dead letters were repeated", verdict.counts.repeated_letters));
    }
    findings.extend(too_much_memory(seen));
    findings.extend(never_scraped(seen));
    findings.extend(at_rest.iter().cloned());
    match months {
        Ok((_, differences)) => {
            findings.extend(differences.iter().map(|it| format!("monthly report {it}")));
        }
        Err(error) => findings.push(format!("monthly reports: {error}")),
    }
    findings
}

fn unpromised(whose: &str, answers: &BTreeMap<String, u64>) -> Vec<String> {
    let wrong = answers.iter().filter(|(answer, _)| !PROMISED_ANSWERS.contains(&answer.as_str()));
    wrong.map(|(answer, count)| format!("{whose} were answered '{answer}' {count} times")).collect()
}

/// What did not come back after a fault, or not in time.
fn not_recovered(result: &Result) -> Option<String> {
    let kind = result.fault.kind;
    match (&result.happened, result.recovery) {
        (Err(NotShown::Stuck), _) => Some(format!("{kind}: {}", NotShown::Stuck)),
        (Ok(Happened { healed: Err(error), .. }), _) => {
            Some(format!("{kind}: not healed: {error}"))
        }
        (_, Some(None)) => Some(format!("not fresh again after {kind}")),
        (_, Some(Some(took))) if took > RECOVERED_WITHIN => {
            Some(format!("fresh again only {:.1} s after {kind}", took.as_secs_f64()))
        }
        _ => None,
    }
}

/// A writer that dies, or loses its partitions, may repeat what it sent last; one that repeats more
/// than that sends letters twice as a rule, or has got stuck.
fn repeats_too_often(verdict: &Verdict) -> bool {
    let repeated = verdict.counts.repeated_letters;
    let different = verdict.counts.letters - repeated;
    repeated > REPEATS_OF_ONE_DEATH + different / REPEATED_ONE_IN
}

fn too_much_memory(seen: &Seen) -> Vec<String> {
    let limit = |name: &str| match name {
        _ if name.starts_with("writer") => WRITER_MEMORY_LIMIT_BYTES,
        _ if name.starts_with("gateway") => GATEWAY_MEMORY_LIMIT_BYTES,
        _ => u64::MAX,
    };
    let above = seen.memory_high_water_bytes.iter().filter(|(name, bytes)| **bytes > limit(name));
    above.map(|(name, bytes)| format!("{name} had {} MB resident", bytes / 1_000_000)).collect()
}

fn never_scraped(seen: &Seen) -> Vec<String> {
    let unseen =
        Standing::all().map(Standing::name).filter(|name| !seen.scrapes.contains_key(name));
    unseen.map(|name| format!("{name} was never scraped")).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::chaos::kind::Kind;
    use crate::chaos::schedule::Fault;

    #[test]
    fn valid_batches_are_answered_as_promised_or_not_at_all() {
        fn check(answer: &str, expected: bool) {
            let found = unpromised("recorders", &BTreeMap::from([(answer.to_owned(), 1)]));
            assert_eq!(found.is_empty(), expected, "{found:?}");
        }
        for promised in ["200", "408", "429", "503", "connect", "timeout", "broken"] {
            check(promised, true);
        }
        for wrong in ["400", "401", "413", "422", "other counts", "unexpected status"] {
            check(wrong, false);
        }
    }

    #[test]
    fn what_does_not_come_back_in_time_is_a_finding() {
        fn check(
            happened: std::result::Result<std::result::Result<(), String>, NotShown>,
            recovery: Option<Option<u64>>,
            expected: bool,
        ) {
            let fault =
                Fault { number: 1, at: Duration::ZERO, kind: Kind::Churn, target: 0, choice: 0 };
            let happened = happened.map(|healed| Happened {
                proof: String::new(),
                ended: Instant::now(),
                healed,
            });
            let recovery = recovery.map(|seconds| seconds.map(Duration::from_secs));
            let result = Result { fault, happened, recovery };
            assert_eq!(not_recovered(&result).is_none(), expected, "{result:?}");
        }
        check(Ok(Ok(())), None, true);
        check(Ok(Ok(())), Some(Some(30)), true);
        check(Ok(Ok(())), Some(Some(31)), false);
        check(Ok(Ok(())), Some(None), false);
        check(Ok(Err("no answer".to_owned())), None, false);
        check(Err(NotShown::Error("not seen".to_owned())), None, true);
        check(Err(NotShown::Stuck), None, false);
    }

    #[test]
    fn a_few_repeated_letters_are_no_finding_and_more_are() {
        fn check(letters: u64, repeated_letters: u64, expected: bool) {
            let mut verdict = Verdict::default();
            (verdict.counts.letters, verdict.counts.repeated_letters) = (letters, repeated_letters);
            assert_eq!(repeats_too_often(&verdict), !expected, "{repeated_letters} of {letters}");
        }
        check(0, 0, true);
        check(10, 5, true);
        // Every one of them twice.
        check(14, 7, false);
        check(200, 100, false);
        check(452, 6, true);
    }

    #[test]
    fn writers_and_gateways_stay_below_their_limits() {
        fn check(name: &str, megabytes: u64, expected: bool) {
            let bytes = BTreeMap::from([(name.to_owned(), megabytes * 1_000_000)]);
            let seen = Seen { memory_high_water_bytes: bytes, ..Seen::default() };
            assert_eq!(too_much_memory(&seen).is_empty(), expected, "{name}: {megabytes} MB");
        }
        check("writer-1", 300, true);
        check("writer-1", 301, false);
        check("writer-visitor", 301, false);
        check("gateway-2", 200, true);
        check("gateway-2", 201, false);
        check("broker-1", 900, true);
    }

    #[test]
    fn every_standing_service_must_have_been_scraped() {
        let mut seen = Seen::default();
        assert_eq!(never_scraped(&seen).len(), Standing::all().count());
        seen.scrapes = Standing::all().map(|standing| (standing.name(), 1)).collect();
        assert!(never_scraped(&seen).is_empty());
        seen.scrapes.remove("reporter");
        assert_eq!(never_scraped(&seen), ["reporter was never scraped"]);
    }
}
