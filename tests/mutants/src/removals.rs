//! For each property of the autoscaler, the line that holds it: without that line its test fails (`scale/properties.rs`).

/// What is left out, and the test that must fail.
pub struct Removal {
    pub property: &'static str,
    pub file: &'static str,
    /// An expression that occurs once.
    pub code: &'static str,
    /// What stays of it.
    pub without: &'static str,
}

/// Their numbers begin where those of mutants end.
pub const FIRST_REMOVAL: usize = 1_000_000;

const fn removal(property: &'static str, file: &'static str, code: &'static str, without: &'static str) -> Removal {
    Removal { property, file, code, without }
}

const DECISION: &str = "operator/src/scale/mod.rs";
const CENSUS: &str = "operator/src/scale/census.rs";
const MEASURE: &str = "operator/src/scale/measure.rs";
const VICTIMS: &str = "operator/src/scale/victims.rs";
const SHED: &str = "operator/src/scale/shed.rs";

/// In the order of the properties.
pub const REMOVALS: &[Removal] = &[
    removal("the_size_stays_within_bounds", DECISION, "previous.clamp(min, max)", "previous"),
    removal(
        "the_order_of_shards_does_not_matter",
        CENSUS,
        "shards.sort_by(|a, b| (a.index, &a.uid).cmp(&(b.index, &b.uid)))",
        "()",
    ),
    removal("more_load_never_makes_fewer_shards", DECISION, "down.min(current)", "down"),
    removal("silence_never_shrinks", DECISION, "self.members.unheard().next().is_some()", "false"),
    removal("silence_never_shrinks", MEASURE, "member.shard.ready", "false"),
    removal("no_gate_lets_a_scale_in_through", DECISION, "is_recent(self.history.last_oom_kill, OOM_KILL_HOLDS)", "false"),
    removal("no_gate_lets_a_scale_in_through", DECISION, "self.members.is_rolling()", "false"),
    removal("no_gate_lets_a_scale_in_through", DECISION, "is_recent(self.history.observed_since, window)", "false"),
    removal("when_its_cause_is_gone_no_gate_holds_for_ever", DECISION, "elapsed(time, self.now) < span", "true"),
    removal(
        "victims_fit_the_survivors_in_load_and_in_bytes",
        VICTIMS,
        "room.as_ref().is_some_and(|room| !room.fits(next))",
        "false",
    ),
    removal("no_more_than_four_or_as_many_as_there_were_are_added_in_fifteen_seconds", DECISION, "lowest.min(ceiling)", "lowest"),
    removal("a_hot_shard_cools_without_a_scale_out_or_flapping", MEASURE, "slot > 0 && excess > headroom", "slot > 0"),
    removal("a_hot_shard_cools_without_a_scale_out_or_flapping", SHED, "sheds.push(self.shed(member, bytes, streams))", "()"),
    removal("constant_load_turns_at_most_once", MEASURE, "slot > 0 && excess > headroom", "slot > 0"),
    removal(
        "a_scale_in_says_how_many_streams_it_ends",
        VICTIMS,
        "Victim { pod: member.shard.pod(), streams: streams(member) }",
        "Victim { pod: member.shard.pod(), streams: 0 }",
    ),
    removal(
        "every_order_of_ready_and_first_report_gives_the_same_size",
        MEASURE,
        "sum(members.in_state(ShardState::Silent).filter(|m| m.shard.ready).map(|m| final_target.saturating_sub(m.load)))",
        "sum(members.unheard().map(|m| final_target.saturating_sub(m.load)))",
    ),
];
