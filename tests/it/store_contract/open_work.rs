//! Outside agents and their offers: who may claim what, once, and what a later attempt takes over.

use crate::support::runs::project;
use crate::support::stores::TestStore;
use skep::domain::open_work::{Claim, ClaimRefusal};
use skep::domain::order::TaskOrder;
use skep::domain::{
    Agent, AttemptId, EngineSpec, Offer, OfferState, OpenWorkSettings, Order, PersonName, Principal, RunId, Sha, Step,
    Submission, TaskId, TaskSpec, Timestamp, Usage, Verdict,
};
use skep::ports::open_work::{Invited, OpenWork};

super::on_both!(
    each_of_twenty_offers_is_claimed_once_by_fifty_agents,
    a_claim_lapses_is_given_back_and_is_extended,
    a_submission_is_taken_over_by_the_next_attempt,
    nobody_reviews_their_own_work_or_twice,
    an_agent_registers_once_and_is_revoked,
    calls_are_counted_by_hour
);

fn order(run: RunId, attempt: u32, step: Step) -> Order {
    Order {
        run,
        attempt: AttemptId(attempt),
        try_number: 1,
        round: 1,
        step,
        engine: EngineSpec::parse("open"),
        goal: "Add a \u{1f41d}".to_owned(),
        question: None,
        task: (step == Step::Develop).then(|| TaskOrder {
            id: TaskId(1),
            spec: TaskSpec {
                name: "one".to_owned(),
                title: "One".to_owned(),
                text: "One, whole".to_owned(),
                needs: Vec::new(),
                paths: Vec::new(),
            },
        }),
        head: Sha("1".repeat(40)),
        continues: None,
        base: Sha("1".repeat(40)),
        notes: Vec::new(),
        checks: Vec::new(),
        criteria: Vec::new(),
        results: Vec::new(),
        excused: Vec::new(),
        diff: Default::default(),
        concerns: Vec::new(),
        bounds: Default::default(),
        caps: Usage::default(),
        resume: None,
    }
}

fn new_run() -> RunId {
    RunId(uuid::Uuid::now_v7())
}

fn name(text: &str) -> PersonName {
    PersonName::new(text).expect("a name")
}

fn claim_of(agent: &str, owner: &str, at: i64, until: i64) -> Claim {
    Claim { agent: name(agent), owner: Principal::from(owner), at: Timestamp(at), until: Timestamp(until) }
}

fn agent(of: &str, owner: &str) -> Agent {
    Agent {
        name: name(of),
        owner: Principal::from(owner),
        about: String::new(),
        invite_digest: "d".to_owned(),
        invite_ends_at: Timestamp(100),
        invited_by: Principal::from(owner),
        created_at: Timestamp(1),
        registered_at: None,
        seen_at: None,
        revoked_at: None,
        lapses: 0,
    }
}

fn patch(text: &str) -> Submission {
    Submission::Patch { patch: text.to_owned(), summary: "a \0 summary".to_owned() }
}

async fn open(b: &TestStore, order: &Order, at: i64) -> Offer {
    b.sea.open_offer(order, &project("demo"), "", Timestamp(at)).await.expect("an offer")
}

async fn claim(b: &TestStore, id: &str, claim: &Claim) -> Result<Offer, ClaimRefusal> {
    b.sea.claim(id, claim, &OpenWorkSettings::default()).await.expect("an answer").expect("an offer")
}

async fn each_of_twenty_offers_is_claimed_once_by_fifty_agents(b: TestStore) {
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(open(&b, &order(new_run(), 1, Step::Develop), n).await.id);
    }
    let listed = b.sea.open_offers(Timestamp(100), 500).await.expect("offers");
    assert_eq!(listed.iter().map(|offer| &offer.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let agents = (0..50).map(|n| {
        let (b, mut ids) = (&b, ids.clone());
        // Each begins elsewhere.
        ids.rotate_left(n % 20);
        async move {
            let mut got = Vec::new();
            for id in ids {
                let wanted = claim_of(&format!("agent-{n}"), &format!("user:owner-{n}"), 200, 9_000);
                match claim(b, &id, &wanted).await {
                    Ok(offer) => got.push(offer.id),
                    Err(ClaimRefusal::Taken(until)) => assert_eq!(until, Timestamp(9_000)),
                    Err(ClaimRefusal::AgentLimit(2)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            got
        }
    });
    let got = futures::future::join_all(agents).await;
    assert!(got.iter().all(|got| got.len() <= 2), "{got:?}");
    let mut all: Vec<String> = got.into_iter().flatten().collect();
    all.sort();
    ids.sort();
    assert_eq!(all, ids);
    assert!(b.sea.open_offers(Timestamp(300), 500).await.expect("offers").is_empty());
}

async fn a_claim_lapses_is_given_back_and_is_extended(b: TestStore) {
    b.sea.add_agent(&agent("crab", "user:ann"), 5).await.expect("an agent");
    let offer = open(&b, &order(new_run(), 1, Step::Develop), 1).await;
    assert_eq!(open(&b, &order(offer.order.run, 1, Step::Develop), 9).await, offer, "offering again changes nothing");
    let crab = claim_of("crab", "user:ann", 10, 20);
    assert!(claim(&b, &offer.id, &crab).await.is_ok() && claim(&b, &offer.id, &crab).await.is_ok());
    let fox = |at| claim_of("fox", "user:ben", at, at + 10);
    assert_eq!(claim(&b, &offer.id, &fox(19)).await.unwrap_err(), ClaimRefusal::Taken(Timestamp(20)));
    // A call extends the lease, but not beyond three leases, and not a lapsed one.
    b.sea.extend_claims(&name("crab"), Timestamp(15), Timestamp(25), 30).await.expect("extended");
    b.sea.extend_claims(&name("crab"), Timestamp(24), Timestamp(60), 30).await.expect("extended");
    let until = |offer: Offer| offer.claim.expect("a claim").until;
    assert_eq!(until(b.sea.offer(&offer.id).await.expect("a store").expect("an offer")), Timestamp(40));
    b.sea.extend_claims(&name("crab"), Timestamp(40), Timestamp(90), 300).await.expect("not extended");
    assert!(!b.sea.submit(&offer.id, &name("crab"), &patch("x"), Timestamp(40)).await.expect("an answer"));
    assert!(b.sea.open_offers(Timestamp(39), 9).await.expect("offers").is_empty());
    assert_eq!(b.sea.open_offers(Timestamp(40), 9).await.expect("offers").len(), 1);
    let again = claim_of("crab", "user:ann", 41, 50);
    assert_eq!(claim(&b, &offer.id, &again).await.unwrap_err(), ClaimRefusal::Turned);
    assert!(claim(&b, &offer.id, &fox(41)).await.is_ok());
    assert_eq!(b.sea.agent(&name("crab")).await.expect("a store").expect("an agent").lapses, 1);
    assert!(!b.sea.give_back(&offer.id, &name("crab"), Timestamp(42)).await.expect("an answer"), "it is another's");
    assert!(b.sea.give_back(&offer.id, &name("fox"), Timestamp(42)).await.expect("an answer"));
    let open = b.sea.offer(&offer.id).await.expect("a store").expect("an offer");
    assert_eq!(
        (open.state, open.turned.as_slice()),
        (OfferState::Open, ["crab".to_owned(), "fox".to_owned()].as_slice())
    );
    b.sea.close_offer(&offer.id).await.expect("closed");
    assert_eq!(claim(&b, &offer.id, &claim_of("owl", "user:cid", 50, 60)).await.unwrap_err(), ClaimRefusal::Closed);
    let settings = OpenWorkSettings::default();
    assert!(b.sea.claim("0-1", &again, &settings).await.expect("an answer").is_none(), "there is no such offer");
}

async fn a_submission_is_taken_over_by_the_next_attempt(b: TestStore) {
    let run = new_run();
    let first = open(&b, &order(run, 1, Step::Develop), 1).await;
    claim(&b, &first.id, &claim_of("crab", "user:ann", 10, 100)).await.expect("a claim");
    let work = patch("--- a\n+++ b\n\0");
    assert!(b.sea.submit(&first.id, &name("crab"), &work, Timestamp(20)).await.expect("an answer"));
    assert!(!b.sea.submit(&first.id, &name("crab"), &work, Timestamp(20)).await.expect("an answer"), "only once");
    assert!(b.sea.start_applying(&first.id).await.expect("an answer"));
    assert!(!b.sea.start_applying(&first.id).await.expect("an answer"), "only once");
    b.sea.refuse_submission(&first.id, "it does not\0 fit", Timestamp(150)).await.expect("refused");
    let refused = b.sea.offer(&first.id).await.expect("a store").expect("an offer");
    assert_eq!((refused.state, refused.problem.as_str()), (OfferState::Claimed, "it does not fit"));
    assert_eq!((refused.submission, refused.claim.expect("a claim").until), (None, Timestamp(150)));
    assert!(b.sea.submit(&first.id, &name("crab"), &work, Timestamp(120)).await.expect("an answer"));
    assert!(b.sea.start_applying(&first.id).await.expect("an answer"));

    // The attempt is lost before anyone judged the work: the next one has the same number of tries.
    let second = open(&b, &order(run, 2, Step::Develop), 500).await;
    assert_eq!((second.state, second.submission.as_ref()), (OfferState::Submitted, Some(&work)));
    assert_eq!(b.sea.offer(&first.id).await.expect("a store").expect("an offer").state, OfferState::Closed);
    assert!(b.sea.start_applying(&second.id).await.expect("an answer"));
    b.sea.accept_submission(&second.id).await.expect("accepted");
    b.sea.close_offer(&second.id).await.expect("not closed");
    assert_eq!(b.sea.offer(&second.id).await.expect("a store").expect("an offer").state, OfferState::Delivered);

    // Red checks: the next try goes back to the author while the lease runs, and to anybody after that.
    let third = open(&b, &Order { try_number: 2, ..order(run, 3, Step::Develop) }, 149).await;
    assert_eq!((third.state, third.submission), (OfferState::Claimed, None));
    assert!(third.claim.is_some_and(|claim| claim.agent == name("crab")));
    let fourth = open(&b, &Order { try_number: 3, ..order(run, 4, Step::Develop) }, 151).await;
    assert_eq!((fourth.state, fourth.claim), (OfferState::Open, None));
    let own = b.sea.offers_of(&name("crab"), 10).await.expect("offers");
    assert_eq!(own.len(), 3, "{own:?}");
}

async fn nobody_reviews_their_own_work_or_twice(b: TestStore) {
    let run = new_run();
    let work = open(&b, &order(run, 1, Step::Develop), 1).await;
    claim(&b, &work.id, &claim_of("crab", "user:ann", 10, 100)).await.expect("a claim");
    b.sea.submit(&work.id, &name("crab"), &patch("x"), Timestamp(20)).await.expect("submitted");
    b.sea.start_applying(&work.id).await.expect("applying");
    b.sea.accept_submission(&work.id).await.expect("accepted");
    let review = b.sea.open_offer(&order(run, 2, Step::Review), &project("demo"), "+a \0 diff", Timestamp(30)).await;
    let review = review.expect("an offer");
    assert_eq!(b.sea.offered_patch(&review.id).await.expect("a diff"), "+a \u{fffd} diff");
    for own in ["crab", "cousin"] {
        assert_eq!(claim(&b, &review.id, &claim_of(own, "user:ann", 40, 99)).await.unwrap_err(), ClaimRefusal::OwnWork);
    }
    claim(&b, &review.id, &claim_of("fox", "user:ben", 40, 99)).await.expect("a claim");
    let verdict = Submission::Review {
        verdict: Verdict::Rework,
        findings: Vec::new(),
        summary: String::new(),
        criteria: Vec::new(),
    };
    b.sea.submit(&review.id, &name("fox"), &verdict, Timestamp(50)).await.expect("submitted");
    b.sea.start_applying(&review.id).await.expect("applying");
    b.sea.accept_submission(&review.id).await.expect("accepted");
    let facts = b.sea.claim_facts(&name("fox"), &Principal::from("user:ben"), run).await.expect("facts");
    assert_eq!((facts.agent_claims, facts.agent_reviewed, facts.owner_wrote), (0, true, false));
    // A second review is another agent's, although the first one's lease still runs.
    let second = open(&b, &Order { round: 2, ..order(run, 3, Step::Review) }, 60).await;
    assert_eq!(second.state, OfferState::Open);
    let fox = claim_of("fox", "user:ben", 70, 99);
    assert_eq!(claim(&b, &second.id, &fox).await.unwrap_err(), ClaimRefusal::Reviewed);
    claim(&b, &second.id, &claim_of("owl", "user:ben", 70, 99)).await.expect("another agent");
}

async fn an_agent_registers_once_and_is_revoked(b: TestStore) {
    let crab = agent("crab", "user:ann");
    assert_eq!(b.sea.add_agent(&crab, 2).await.expect("an answer"), Invited::Added);
    assert_eq!(b.sea.agent(&crab.name).await.expect("a store"), Some(crab.clone()));
    assert_eq!(b.sea.add_agent(&crab, 2).await.expect("an answer"), Invited::NameTaken);
    assert_eq!(b.sea.add_agent(&agent("fox", "user:ann"), 2).await.expect("an answer"), Invited::Added);
    assert_eq!(b.sea.add_agent(&agent("owl", "user:ann"), 2).await.expect("an answer"), Invited::OwnerLimit);
    let register = async |at| b.sea.register_agent(&crab.name, "a test", Timestamp(at)).await.expect("an answer");
    assert!(!register(100).await, "the code is over");
    let registered = futures::future::join_all((0..8).map(|_| register(50))).await;
    assert_eq!(registered.into_iter().filter(|new| *new).count(), 1);
    let found = b.sea.agent(&crab.name).await.expect("a store").expect("an agent");
    assert_eq!((found.about.as_str(), found.state(Timestamp(999))), ("a test", "active"));

    // An invitation that expired neither counts nor keeps its name.
    let later =
        |of: &str| Agent { created_at: Timestamp(200), invite_ends_at: Timestamp(300), ..agent(of, "user:ann") };
    assert_eq!(b.sea.add_agent(&later("fox"), 2).await.expect("an answer"), Invited::Added);
    let offer = open(&b, &order(new_run(), 1, Step::Develop), 1).await;
    claim(&b, &offer.id, &claim_of("crab", "user:ann", 210, 900)).await.expect("a claim");
    assert!(b.sea.revoke_agent(&crab.name, Timestamp(220)).await.expect("an answer"));
    assert!(b.sea.revoke_agent(&crab.name, Timestamp(230)).await.expect("an answer"));
    assert!(!b.sea.revoke_agent(&name("nobody"), Timestamp(230)).await.expect("an answer"));
    let found = b.sea.agent(&crab.name).await.expect("a store").expect("an agent");
    assert_eq!(found.revoked_at, Some(Timestamp(220)), "the first time counts");
    assert_eq!(b.sea.offer(&offer.id).await.expect("a store").expect("an offer").state, OfferState::Open);
    let names: Vec<String> = b.sea.agents(10).await.expect("agents").iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["crab", "fox"]);
}

async fn calls_are_counted_by_hour(b: TestStore) {
    let hour = 3_600_000;
    let count = async |what, at| b.sea.count_call("agent:crab", what, Timestamp(at)).await.expect("a count");
    let counted = futures::future::join_all((0..20).map(|_| count("read", 5))).await;
    let mut sorted = counted;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=20).collect::<Vec<u64>>());
    assert_eq!((count("claim", 5).await, count("read", hour - 1).await, count("read", hour).await), (1, 21, 1));
    assert_eq!(count("read", 30 * hour).await, 1);
    assert_eq!(count("read", 6).await, 1, "what is more than a day old is forgotten");
}
