//! Who may look: nobody is asked, a token in a file, or tokens of the cluster by its own authentication and roles.
//!
//! Owns the guard before the routes. Probes are never guarded, because a kubelet carries no token. What a token was
//! found to be worth is remembered for a short time, so that a page that asks every second does not.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clouds::watching::within;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a token's worth is remembered, and of how many.
const REMEMBERED: Duration = Duration::from_secs(30);
const MOST_REMEMBERED: usize = 1000;
/// A file is read again after this time.
const READ_AGAIN: Duration = Duration::from_secs(10);
const LARGEST_TOKEN_FILE: u64 = 1 << 16;
const CALL_TIME: Duration = Duration::from_secs(5);
/// What kubelets ask.
const PROBES: [&str; 3] = ["/healthz", "/readyz", "/health-check"];
/// Where a token stands on the way through the API server's proxy, which keeps `Authorization` to itself.
pub const TOKEN_HEADER: &str = "x-tideline-token";

type Digest = [u8; 32];

/// Whom the routes are open to.
#[derive(Clone)]
pub enum Access {
    /// Everybody who reaches the port.
    Open,
    /// Whoever has the token that a file holds.
    File(Arc<TokenFile>),
    /// Whoever the cluster knows by their token and allows `get` on the path.
    Cluster(Arc<Reviews>),
}

/// A token in a file, read again when it may have changed.
pub struct TokenFile {
    path: PathBuf,
    known: Mutex<(Instant, Digest)>,
}

/// The cluster's answers of late, by token and path.
pub struct Reviews {
    client: Client,
    answers: Mutex<BTreeMap<Digest, (Instant, Verdict)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Admitted,
    Unknown,
    Forbidden,
    /// Nobody could be asked.
    Unanswered,
}

impl Access {
    /// A token in a file; refused where it cannot be read or is empty.
    pub fn by_file(path: &Path) -> Result<Self, String> {
        let token = read(path)?;
        Ok(Self::File(Arc::new(TokenFile {
            path: path.to_owned(),
            known: Mutex::new((Instant::now(), token)),
        })))
    }

    /// Tokens of the cluster, which takes the rights to create token reviews and subject access reviews.
    pub fn by_cluster(client: Client) -> Self {
        Self::Cluster(Arc::new(Reviews { client, answers: Mutex::default() }))
    }

    async fn verdict(&self, headers: &HeaderMap, path: &str) -> Verdict {
        match self {
            Self::Open => Verdict::Admitted,
            Self::File(file) => match token_of(headers) {
                Some(token) if file.is(&token) => Verdict::Admitted,
                _ => Verdict::Unknown,
            },
            Self::Cluster(reviews) => match token_of(headers) {
                Some(token) => reviews.ask(&token, path).await,
                None => Verdict::Unknown,
            },
        }
    }
}

impl TokenFile {
    fn is(&self, token: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.elapsed() > READ_AGAIN {
            match read(&self.path) {
                Ok(token) => *known = (Instant::now(), token),
                Err(error) => {
                    tracing::warn!(error, "the token read before stays");
                    known.0 = Instant::now();
                }
            }
        }
        // Digests have one length, and every byte is looked at, whatever the first difference.
        let difference = digest(&[token]).iter().zip(known.1).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl Reviews {
    async fn ask(&self, token: &str, path: &str) -> Verdict {
        let key = digest(&[token, path]);
        if let Some((at, verdict)) = self.answers().get(&key)
            && at.elapsed() < REMEMBERED
        {
            return *verdict;
        }
        let verdict = self.review(token, path).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = clouds::watching::describe(&error),
                "nobody can be let in: a review failed"
            );
            Verdict::Unanswered
        });
        if verdict != Verdict::Unanswered {
            let mut answers = self.answers();
            if answers.len() >= MOST_REMEMBERED {
                answers.clear();
            }
            answers.insert(key, (Instant::now(), verdict));
        }
        verdict
    }

    async fn review(&self, token: &str, path: &str) -> kube::Result<Verdict> {
        let plain = PostParams::default();
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..Default::default() };
        let review = TokenReview { spec, ..Default::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let answer = within(CALL_TIME, reviews.create(&plain, &review)).await?;
        let status = answer.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Verdict::Unknown);
        };
        let asked = NonResourceAttributes { path: Some(reviewed(path)), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            extra: user.extra,
            non_resource_attributes: Some(asked),
            ..Default::default()
        };
        let review = SubjectAccessReview { spec, ..Default::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = within(CALL_TIME, reviews.create(&plain, &review)).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        Ok(if allowed { Verdict::Admitted } else { Verdict::Forbidden })
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, (Instant, Verdict)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The path that roles speak of. Ours have a name of their own before them: `/api/*` is granted to everybody by a role
/// that each cluster has (`system:discovery`). `/metrics` is what whoever scrapes is granted already.
fn reviewed(path: &str) -> String {
    if path == "/metrics" { path.to_owned() } else { format!("/tideline{path}") }
}

/// Puts the guard before every route but the probes.
pub fn guarded(router: Router, access: Access) -> Router {
    match access {
        Access::Open => router,
        access => router.layer(from_fn_with_state(access, guard)),
    }
}

async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if PROBES.contains(&path.as_str()) {
        return next.run(request).await;
    }
    match access.verdict(request.headers(), &path).await {
        Verdict::Admitted => next.run(request).await,
        Verdict::Unknown => {
            // A browser asks its user then, and sends what it was told with every request, streams included.
            let ask =
                [(header::WWW_AUTHENTICATE, r#"Basic realm="Tideline: any name, the token as password""#)];
            (StatusCode::UNAUTHORIZED, ask, "a token is needed: Authorization: Bearer TOKEN\n")
                .into_response()
        }
        Verdict::Forbidden => {
            let message =
                format!("the cluster's roles do not allow get on the nonResourceURL {}\n", reviewed(&path));
            (StatusCode::FORBIDDEN, message).into_response()
        }
        Verdict::Unanswered => {
            (StatusCode::SERVICE_UNAVAILABLE, "the API server cannot be asked about the token; try again\n")
                .into_response()
        }
    }
}

/// The token as programs send it, as browsers do (a password of any name), or as it gets through a proxy.
fn token_of(headers: &HeaderMap) -> Option<String> {
    if let Some(token) = headers.get(TOKEN_HEADER) {
        return token.to_str().ok().map(str::to_owned);
    }
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn digest(parts: &[&str]) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

fn read(path: &Path) -> Result<Digest, String> {
    let wrong = |problem: String| format!("the token file {} {problem}", path.display());
    let length = std::fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if length > LARGEST_TOKEN_FILE {
        return Err(wrong(format!("is larger than {LARGEST_TOKEN_FILE} bytes; is it the right file?")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong("is empty; write the token into it".to_owned()));
    }
    Ok(digest(&[token]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    fn router(access: Access) -> Router {
        let routes =
            Router::new().route("/healthz", get(|| async { "ok" })).route("/", get(|| async { "page" }));
        guarded(routes, access)
    }

    async fn status(router: &Router, path: &str, header: Option<(&str, &str)>) -> u16 {
        let mut request = axum::http::Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_token_in_a_file_opens_everything_and_probes_are_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(Access::by_file(&path).err().unwrap().contains("cannot be read"));
        std::fs::write(&path, " \n").unwrap();
        assert!(Access::by_file(&path).err().unwrap().contains("is empty"));
        std::fs::write(&path, "s3cret\n").unwrap();
        let router = router(Access::by_file(&path).unwrap());
        assert_eq!(status(&router, "/healthz", None).await, 200);
        assert_eq!(status(&router, "/", None).await, 401);
        let basic = format!("Basic {}", STANDARD.encode("me:s3cret"));
        for good in [("authorization", "Bearer s3cret"), ("authorization", &basic), (TOKEN_HEADER, "s3cret")]
        {
            assert_eq!(status(&router, "/", Some(good)).await, 200, "{good:?}");
        }
        let wrong = format!("Basic {}", STANDARD.encode("s3cret:me"));
        for bad in ["Bearer s3cre", "Bearer s3cret ", "Basic s3cret", "s3cret", "", &wrong] {
            assert_eq!(status(&router, "/", Some(("authorization", bad))).await, 401, "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_in_the_file_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "old").unwrap();
        let router = router(Access::by_file(&path).unwrap());
        std::fs::write(&path, "new").unwrap();
        tokio::time::sleep(READ_AGAIN * 2).await;
        assert_eq!(status(&router, "/", Some(("authorization", "Bearer old"))).await, 401);
        assert_eq!(status(&router, "/", Some(("authorization", "Bearer new"))).await, 200);
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(READ_AGAIN * 2).await;
        assert_eq!(status(&router, "/", Some(("authorization", "Bearer new"))).await, 200);
    }

    /// An API server that knows two tokens, and one that does not answer.
    #[tokio::test(start_paused = true)]
    async fn the_cluster_says_who_may_look() {
        let asked = Arc::new(Mutex::new(0));
        let count = Arc::clone(&asked);
        let server = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            *count.lock().unwrap() += 1;
            async move {
                let token = request.uri().path().contains("tokenreviews");
                let body = request.into_body().collect_bytes().await.unwrap();
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let mut answer = body.clone();
                answer["status"] = if token {
                    let known = ["viewer", "stranger"].contains(&body["spec"]["token"].as_str().unwrap());
                    serde_json::json!({"authenticated": known, "user": {"username": body["spec"]["token"]}})
                } else {
                    assert_eq!(
                        body["spec"]["nonResourceAttributes"],
                        serde_json::json!({"path": "/tideline/", "verb": "get"})
                    );
                    serde_json::json!({"allowed": body["spec"]["user"] == "viewer"})
                };
                let answer = http::Response::new(kube::client::Body::from(answer.to_string().into_bytes()));
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let router = router(Access::by_cluster(Client::new(server, "default")));
        let bearer = |token: &str| format!("Bearer {token}");
        for (token, code) in [("viewer", 200), ("stranger", 403), ("nobody", 401), ("viewer", 200)] {
            assert_eq!(status(&router, "/", Some(("authorization", &bearer(token)))).await, code, "{token}");
        }
        assert_eq!(*asked.lock().unwrap(), 5, "what was said is remembered");
        let silent = tower::service_fn(|_: http::Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, std::convert::Infallible>>()
        });
        let router = self::router(Access::by_cluster(Client::new(silent, "default")));
        assert_eq!(status(&router, "/", Some(("authorization", "Bearer viewer"))).await, 503);
    }
}
