//! The provider of external programs against a program that errs in every way it can, over a real connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

#[path = "external/program.rs"]
mod program;

use clouds::calls::CallLimits;
use clouds::external::{External, Server, Settings, pool_id};
use clouds::polling::Poll;
use clouds::{OrderAnswer, Provider as _, ProviderError};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use model::{
    Buy, Change, Input, InputState, IntentId, Lower, Machine, MachineId, MachineState, Pool, PoolId,
    PoolOptions, Release, RemovalCause, Serves,
};
use program::{Fault, Group, Program};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_mins(2);

/// What the stream of changes told so far.
struct Watched {
    changes: BoxStream<'static, Change>,
    pools: BTreeMap<PoolId, Arc<Pool>>,
    machines: BTreeMap<MachineId, Arc<Machine>>,
    input: Option<InputState>,
}

impl Watched {
    fn of(provider: &External) -> Self {
        Self { changes: provider.watch(), pools: BTreeMap::new(), machines: BTreeMap::new(), input: None }
    }

    /// Takes changes until what they add up to is as it should be.
    async fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        let wait = async {
            while !reached(self) {
                match self.changes.next().await.unwrap() {
                    Change::Pool(id, Some(pool)) => drop(self.pools.insert(id, pool)),
                    Change::Pool(id, None) => drop(self.pools.remove(&id)),
                    Change::Machine(id, Some(machine)) => drop(self.machines.insert(id, machine)),
                    Change::Machine(id, None) => drop(self.machines.remove(&id)),
                    Change::Input(Input::Pools(_), state) => self.input = Some(state),
                    other => panic!("{other:?}"),
                }
            }
        };
        let waited = tokio::time::timeout(DEADLINE, wait).await;
        assert!(waited.is_ok(), "not in time: {what}; {:?} {:?} {:?}", self.pools, self.machines, self.input);
    }

    /// Looks on while something else is waited for; nothing may be told meanwhile.
    async fn quiet_until(&mut self, done: impl Future<Output = ()>) {
        tokio::select! {
            biased;
            () = done => {}
            change = self.changes.next() => panic!("{change:?}"),
        }
    }

    fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(&pool_id(name)).map(|pool| &**pool)
    }

    fn frozen(&self, name: &str, part: &str) -> bool {
        let why = self.pool(name).and_then(|pool| pool.frozen.as_ref());
        why.is_some_and(|why| why.contains(part))
    }

    fn is_well(&self, name: &str) -> bool {
        self.pool(name).is_some_and(|pool| pool.frozen.is_none())
    }
}

async fn provider(program: &Program) -> External {
    let address = program.serve().await;
    let server = Server { address, tls: None, connect_timeout: Duration::from_secs(1) };
    let limits =
        CallLimits { timeout: Duration::from_millis(300), breaker_failures: 1_000, ..CallLimits::default() };
    let poll = Poll { at_rest: Duration::from_millis(50), moving: Duration::from_millis(20) };
    let defaults = PoolOptions { utilization_threshold_percent: Some(50), ..PoolOptions::default() };
    let settings = Settings { poll, defaults, ..Settings::new(server, limits) };
    External::new(settings, None, clock::Clock::system()).unwrap()
}

fn buy(pool: &str, from: u32, to: u32) -> Buy {
    let (intent, serves) = (IntentId::from("i"), Serves::default());
    Buy { intent, pool: pool_id(pool), from, to, max: 10, serves, launches: Vec::new() }
}

fn lower(pool: &str, from: u32, to: u32) -> Lower {
    Lower { intent: IntentId::from("i"), pool: pool_id(pool), from, to }
}

fn release(pool: &str, machine: &str) -> Release {
    Release {
        intent: IntentId::from("i"),
        pool: pool_id(pool),
        machine: MachineId::from(machine),
        node: None,
        cause: RemovalCause::Empty,
        min: 0,
    }
}

fn why(answer: Result<OrderAnswer, ProviderError>) -> String {
    match answer.unwrap() {
        OrderAnswer::Obsolete { why } => why.to_string(),
        OrderAnswer::Done => panic!("it was done"),
    }
}

#[tokio::test]
async fn groups_are_read_with_what_their_nodes_look_like() {
    let program = Program::default();
    program.add("a", Group { max: 5, target: 1, ..Group::default() });
    program.add("plain", Group { max: 3, without_extras: true, ..Group::default() });
    program.state().groups.get_mut("a").unwrap().machines =
        BTreeMap::from([("cloud://1".to_owned(), program::RUNNING)]);
    let provider = provider(&program).await;
    let mut watched = Watched::of(&provider);
    watched.until("both pools", |now| now.input == Some(InputState::Fresh)).await;
    let pool = watched.pool("a").unwrap();
    assert_eq!((pool.min, pool.max, pool.target, pool.price.0), (0, 5, 1, 192_000));
    let template = pool.template.as_ref().unwrap();
    assert_eq!((template.allocatable.cpu.0, &*template.labels["tier"]), (4000, "web"));
    assert_eq!(pool.options.utilization_threshold_percent, None, "the program echoed what it was told");
    assert_eq!(watched.machines.len(), 1);
    // A program may leave out templates, options and prices.
    let plain = watched.pool("plain").unwrap();
    assert_eq!((plain.frozen.clone(), plain.template.clone(), plain.price.0), (None, None, 0));
}

#[tokio::test]
async fn answers_that_make_no_sense_freeze_their_group_and_no_other() {
    let program = Program::default();
    let group = |min, max, target| Group { min, max, target, ..Group::default() };
    program.add("well", group(0, 5, 0));
    program.add("bounds", group(5, 1, 0));
    program.add("size", group(0, 5, -1));
    program.add("huge", group(0, 5, 2_000_000));
    program.add("x-machines", group(0, 5, 0));
    program.add("well-too", Group { wants_all_or_none: true, ..group(0, 5, 0) });
    program.add("template", Group { template: vec![1, 2, 3], ..group(0, 5, 0) });
    {
        let mut state = program.state();
        let shared = BTreeMap::from([("cloud://1".to_owned(), program::RUNNING)]);
        state.groups.get_mut("well").unwrap().machines = shared.clone();
        state.groups.get_mut("x-machines").unwrap().machines = shared;
    }
    let provider = provider(&program).await;
    let mut watched = Watched::of(&provider);
    watched
        .until("each with its reason", |now| {
            now.frozen("bounds", "5 to 1 nodes")
                && now.frozen("size", "-1 is no number of nodes")
                && now.frozen("huge", "2000000")
                && now.frozen("x-machines", "cloud://1 in well and in x-machines")
                && now.frozen("well-too", "zeroOrMaxNodeScaling")
                && now.is_well("well")
                && now.pool("template").is_some_and(|pool| pool.template.is_none())
                && now.input == Some(InputState::Fresh)
        })
        .await;
    program.state().groups.get_mut("bounds").unwrap().max = 7;
    watched.until("the group is well again", |now| now.is_well("bounds")).await;
}

#[tokio::test]
async fn what_one_answer_leaves_out_is_still_there() {
    let program = Program::default();
    program.add("a", Group { max: 5, target: 2, ..Group::default() });
    program.state().groups.get_mut("a").unwrap().machines = BTreeMap::from([
        ("cloud://1".to_owned(), program::RUNNING),
        ("cloud://2".to_owned(), program::RUNNING),
    ]);
    let provider = provider(&program).await;
    let mut watched = Watched::of(&provider);
    let whole = |now: &Watched| now.machines.len() == 2 && now.input == Some(InputState::Fresh);
    watched.until("two machines", whole).await;
    // Left out once, machines and group stay; for good, they go.
    program.fault("NodeGroupNodes", Fault::Empty);
    program.fault("NodeGroups", Fault::Empty);
    watched.quiet_until(program.until_used(&["NodeGroupNodes", "NodeGroups"])).await;
    program.state().groups.get_mut("a").unwrap().machines.remove("cloud://2");
    watched.until("one machine", |now| now.machines.len() == 1).await;
    assert!(watched.pool("a").is_some());
    program.state().groups.clear();
    watched.until("nothing", |now| now.pools.is_empty() && now.machines.is_empty()).await;
}

#[tokio::test]
async fn a_shortage_is_a_failed_machine_and_an_ill_program_a_stale_input() {
    let program = Program::default();
    program.add("a", Group { max: 5, target: 1, ..Group::default() });
    program.state().groups.get_mut("a").unwrap().machines = BTreeMap::from([
        ("cloud://1".to_owned(), program::FAILED),
        ("cloud://2".to_owned(), program::CREATING),
    ]);
    let provider = provider(&program).await;
    let mut watched = Watched::of(&provider);
    let failed = |now: &Watched| {
        let machine = now.machines.values().next();
        machine.is_some_and(
            |one| matches!(&one.state, MachineState::Failed { code, .. } if &**code == "SoldOut"),
        )
    };
    watched.until("a failed machine", failed).await;
    // One that cannot be asked about one group goes on with the others; one that cannot be asked at all is told.
    program.add("b", Group { max: 5, ..Group::default() });
    program.fault_of("a", "NodeGroupTargetSize", Fault::Unavailable);
    watched
        .until("a stands still, b goes on", |now| now.frozen("a", "Unavailable") && now.is_well("b"))
        .await;
    program.heal();
    watched.until("both are well", |now| now.is_well("a") && now.is_well("b")).await;
}

#[tokio::test]
async fn a_program_that_never_answered_is_no_empty_cloud() {
    let program = Program::default();
    program.fault_for_good("NodeGroups", Fault::Silent);
    let provider = provider(&program).await;
    let mut watched = Watched::of(&provider);
    watched
        .until("stale, with the reason", |now| {
            matches!(&now.input, Some(InputState::Stale { why, .. }) if why.contains("300 ms") || why.contains("NodeGroups"))
        })
        .await;
    assert!(watched.pools.is_empty());
    program.heal();
    watched.until("fresh", |now| now.input == Some(InputState::Fresh)).await;
}

#[tokio::test]
async fn orders_are_absolute_and_a_lost_answer_buys_nothing_twice() {
    let program = Program::default();
    program.add("a", Group { min: 1, max: 5, target: 1, ..Group::default() });
    let provider = provider(&program).await;
    assert_eq!(provider.buy(&buy("a", 1, 3)).await.unwrap(), OrderAnswer::Done);
    assert_eq!(provider.buy(&buy("a", 1, 3)).await.unwrap(), OrderAnswer::Done);
    assert_eq!((program.target("a"), program.count("NodeGroupIncreaseSize")), (3, 1));
    assert!(why(provider.buy(&buy("a", 3, 9)).await).contains("over the maximum of 5"));
    // It was applied, and nobody heard: the next order waits, and then finds it done.
    program.fault("NodeGroupIncreaseSize", Fault::AnswerLost);
    let lost = provider.buy(&buy("a", 3, 4)).await.unwrap_err();
    assert!(matches!(lost, ProviderError::Transient { .. }), "{lost}");
    let early = provider.buy(&buy("a", 3, 4)).await.unwrap_err();
    assert!(matches!(&early, ProviderError::Later { why, .. } if why.contains("got no answer")), "{early}");
    let mut answer = Err(early);
    while matches!(answer, Err(ProviderError::Later { .. })) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = provider.buy(&buy("a", 3, 4)).await;
    }
    assert_eq!(answer.unwrap(), OrderAnswer::Done);
    assert_eq!((program.target("a"), program.count("NodeGroupIncreaseSize")), (4, 2));
    // Sold out: the program's own answer, which another try would not change.
    program.fault("NodeGroupIncreaseSize", Fault::Exhausted);
    let refused = provider.buy(&buy("a", 4, 5)).await.unwrap_err();
    assert!(
        matches!(&refused, ProviderError::Refused { code, .. } if code == "ResourceExhausted"),
        "{refused}"
    );
    assert!(why(provider.buy(&buy("gone", 0, 1)).await).contains("is gone"));
}

#[tokio::test]
async fn machines_go_by_name_and_what_never_came_by_number() {
    let program = Program::default();
    program.add("a", Group { min: 1, max: 5, target: 4, ..Group::default() });
    let machine = |number: u32| (format!("cloud://{number}"), program::RUNNING);
    program.state().groups.get_mut("a").unwrap().machines = (1..=3).map(machine).collect();
    let provider = provider(&program).await;
    assert!(why(provider.reduce_to("a", 4, 2).await).contains("only named ones may go"));
    assert_eq!(provider.reduce_to("a", 4, 3).await.unwrap(), OrderAnswer::Done);
    assert_eq!(program.target("a"), 3);
    assert_eq!(provider.release(&release("a", "cloud://2")).await.unwrap(), OrderAnswer::Done);
    assert_eq!(provider.release(&release("a", "cloud://2")).await.unwrap(), OrderAnswer::Done);
    assert_eq!((program.target("a"), program.count("NodeGroupDeleteNodes")), (2, 1));
    assert_eq!(provider.release(&release("a", "cloud://1")).await.unwrap(), OrderAnswer::Done);
    assert!(why(provider.release(&release("a", "cloud://3")).await).contains("minimum of 1"));
    assert!(why(provider.reduce_to("a", 1, 0).await).contains("under the minimum"));
}

/// Lowering, spelt short.
trait Reduce {
    async fn reduce_to(&self, pool: &str, from: u32, to: u32) -> Result<OrderAnswer, ProviderError>;
}

impl Reduce for External {
    async fn reduce_to(&self, pool: &str, from: u32, to: u32) -> Result<OrderAnswer, ProviderError> {
        self.lower(&lower(pool, from, to)).await
    }
}
