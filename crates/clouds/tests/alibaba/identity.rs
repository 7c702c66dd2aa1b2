//! Keys that expire, roles, wrong keys and wrong clocks.

use crate::world::{World, key, settings, state};
use clouds::alibaba::{AccessKey, Source};
use clouds::secret::Secret;
use jiff::SignedDuration;
use model::InputState;
use std::io::Write as _;
use std::time::Duration;

async fn goes_on_for_hours(mut world: World) {
    world.until_fresh().await;
    let first = world.double.state().identity.given();
    world.pass(Duration::from_hours(3)).await;
    assert_eq!(state(&world.cluster), Some(&InputState::Fresh));
    let refused: Vec<String> = {
        let state = world.double.state();
        state.calls.iter().filter(|call| !call.refused.is_empty()).map(|call| call.refused.clone()).collect()
    };
    assert!(refused.is_empty(), "{refused:?}");
    let given = world.double.state().identity.given() - first;
    assert!((8..=16).contains(&given), "keys of twenty minutes are renewed before their end: {given} times");
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_service_accounts_role_are_renewed_in_time() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"header.payload.signature\n").unwrap();
    let source = Source::Oidc {
        provider_arn: "acs:ram::1:oidc-provider/ack-rrsa".into(),
        token_file: file.path().to_owned(),
        role_arn: "acs:ram::1:role/autoscaler".into(),
        session: "tideline".into(),
    };
    let prepare = |service: &mut doubles::alibaba::Service| {
        service.identity.oidc_token = Some("header.payload.signature".into());
        service.identity.lifetime = Some(SignedDuration::from_mins(20));
    };
    goes_on_for_hours(World::with(prepare, settings(), source)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_the_instances_role_are_renewed_in_time() {
    for needs_metadata_token in [false, true] {
        let prepare = |service: &mut doubles::alibaba::Service| {
            service.identity.instance_role = Some("worker-role".into());
            service.identity.needs_metadata_token = needs_metadata_token;
            service.identity.lifetime = Some(SignedDuration::from_mins(20));
        };
        let source = Source::InstanceRole { name: String::new() };
        goes_on_for_hours(World::with(prepare, settings(), source)).await;
    }
}

async fn refused_with(source: Source, parts: &[&str]) {
    let mut world = World::with(|_| {}, settings(), source);
    world.until("staleness", |cluster| matches!(state(cluster), Some(InputState::Stale { .. }))).await;
    let Some(InputState::Stale { why, .. }) = state(&world.cluster) else { panic!("not stale") };
    for part in parts {
        assert!(why.contains(part), "{part} in: {why}");
    }
    assert!(!why.contains("wrong-secret") && !why.contains("testsecret"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn wrong_keys_are_called_wrong_without_being_shown() {
    let given = |id: &str, secret: &str, token: Option<&str>| {
        let token = token.map(Secret::new);
        Source::Given(AccessKey { id: id.into(), secret: Secret::new(secret), token })
    };
    let fix = "check ACCESS_KEY_ID";
    refused_with(given("nobody", "testsecret", None), &["InvalidAccessKeyId.NotFound", fix]).await;
    refused_with(given("testid", "wrong-secret", None), &["SignatureDoesNotMatch", fix]).await;
    refused_with(given("testid", "testsecret", Some("x")), &["InvalidSecurityToken", ""]).await;
    refused_with(Source::InstanceRole { name: "none".into() }, &["instance role none"]).await;
    let missing = Source::Oidc {
        provider_arn: "p".into(),
        token_file: "/nowhere/token".into(),
        role_arn: "r".into(),
        session: "s".into(),
    };
    refused_with(missing, &["/nowhere/token", "volume"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_clock_is_corrected_by_the_services_time() {
    for skew in [SignedDuration::from_hours(5), SignedDuration::from_hours(-5)] {
        let mut world = World::with(|service| service.skew = skew, settings(), key());
        world.until_fresh().await;
        world.buy("buy-1", 1).await.unwrap();
        world.until_running(1).await;
        let state = world.double.state();
        let expired = state.calls.iter().filter(|call| call.refused == "InvalidTimeStamp.Expired").count();
        // Once for each of the two APIs.
        assert!(expired <= 2, "{expired}");
    }
}

#[test]
fn the_environment_is_read_in_the_peers_order() {
    let read = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Source::from_environment(move |name| {
            pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        })
        .map(|source| source.describe())
    };
    let oidc = [
        ("ALICLOUD_OIDC_PROVIDER_ARN", "p"),
        ("ALICLOUD_OIDC_TOKEN_FILE_PATH", "f"),
        ("ALICLOUD_ROLE_ARN", "role"),
    ];
    let key = [("ACCESS_KEY_ID", "id"), ("ACCESS_KEY_SECRET", "secret")];
    assert_eq!(read(&key).unwrap(), "an access key");
    assert_eq!(read(&[&key[..], &oidc].concat()).unwrap(), "an access key");
    assert_eq!(read(&oidc).unwrap(), "the OIDC role role");
    assert_eq!(read(&[]).unwrap(), "the role of this instance");
    assert_eq!(
        read(&[("ALIBABA_CLOUD_ACCESS_KEY_ID", "a"), key[1], ("SECURITY_TOKEN", "t")]).unwrap(),
        "an access key with an STS token"
    );
    assert!(read(&key[..1]).unwrap_err().contains("ACCESS_KEY_SECRET"));
    assert!(read(&oidc[..2]).unwrap_err().contains("ALIBABA_CLOUD_ROLE_ARN"));
}
