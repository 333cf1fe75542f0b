//! The thread that watches. Of the cluster it asks for nothing but the pods of its node.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::runtime::watcher;
use kube::{Client, Config};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::object::PodObject;
use super::store::Cluster;

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that accepts and does not answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Events that come together are told together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Pods in one page of the list: what a page weighs is used for a moment only, but it is used.
const PAGE: u32 = 100;

/// How the API server is reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// By the service account of the pod that we are in.
    InCluster,
    /// By a file.
    Kubeconfig(PathBuf),
    /// By the file that `kubectl` would use, else as in a cluster.
    Anyhow,
}

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the server is reached.
    pub reach: Reach,
    /// Our node, where it is known.
    pub node: Option<String>,
    /// Our host's name.
    pub host: String,
    /// First pause between two tries.
    pub pause: Duration,
}

/// Gets the uids of pods that have become known or changed.
pub type OnPods = Box<dyn FnMut(&HashSet<Box<str>>) + Send>;

/// The running thread.
#[derive(Debug)]
pub struct Watch {
    _stop: oneshot::Sender<()>,
}

impl Watch {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    ///
    /// When there can be no thread, or no runtime on it.
    pub fn start(settings: Settings, cluster: Cluster, on_pods: OnPods) -> Result<Self> {
        let (stop, mut stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime of the Kubernetes client")?;
        crate::pipeline::spawn("kube", move || {
            let lost = cluster.clone();
            let watch = AssertUnwindSafe(|| {
                runtime.block_on(async move {
                    let mut watching = Watching { settings, cluster, on_pods, told: false };
                    tokio::select! {
                        _ = &mut stopped => {}
                        () = watching.forever() => {}
                    }
                });
            });
            // What names pods is worth no trace: the rest goes on without this thread.
            if catch_unwind(watch).is_err() {
                lost.set_failing(true);
                error!("The Kubernetes client panicked: pods that come from here on have no names.");
            }
            // Of names being looked up nobody waits for an answer any more.
            runtime.shutdown_background();
        })?;
        Ok(Self { _stop: stop })
    }
}

async fn client(settings: &Settings) -> Result<(Client, String)> {
    let mut config = match &settings.reach {
        Reach::InCluster => Config::incluster_env().context("the service account of this pod")?,
        Reach::Kubeconfig(path) => {
            let file = kube::config::Kubeconfig::read_from(path)
                .with_context(|| format!("reading {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &Default::default())
                .await
                .with_context(|| format!("{}", path.display()))?
        }
        Reach::Anyhow => Config::infer().await.context("no kubeconfig, and no service account")?,
    };
    config.connect_timeout = Some(ANSWER);
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).context("a client of the API server")?, namespace))
}

/// The name of our node.
async fn node(settings: &Settings, client: &Client, namespace: &str) -> Result<String> {
    if let Some(node) = &settings.node {
        return Ok(node.clone());
    }
    let host = &settings.host;
    let pods: Api<PodObject> = Api::namespaced(client.clone(), namespace);
    let own = timeout(ANSWER, pods.get_opt(host)).await.context("asking for our own pod")?;
    // Whether we may ask for it at all is told by the watch.
    if let Ok(Some(node)) = own.as_ref().map(|pod| pod.as_ref().and_then(PodObject::node)) {
        return Ok(node.to_owned());
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let named = timeout(ANSWER, nodes.get_metadata_opt(host)).await.context("asking for our node")?;
    if named.context("asking for our node")?.is_some() {
        return Ok(host.clone());
    }
    let labelled = ListParams::default().labels(&format!("kubernetes.io/hostname={host}"));
    let list = timeout(ANSWER, nodes.list_metadata(&labelled)).await.context("asking for our node")??;
    match list.items.as_slice() {
        [one] => Ok(one.metadata.name.clone().unwrap_or_default()),
        _ => bail!(
            "no node is called {host}, and spanwire.node_name (SPANWIRE_NODE_NAME, NODE_NAME) is not set"
        ),
    }
}

/// Asks once, as the watch would: the name of our node, whose pods may be listed.
///
/// # Errors
///
/// Says what the watch would fail for.
pub fn probe(settings: &Settings) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        let (client, namespace) = client(settings).await?;
        let node = node(settings, &client, &namespace).await?;
        let pods: Api<PodObject> = Api::all(client);
        let one = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(1);
        timeout(ANSWER, pods.list(&one)).await.context("listing pods")?.context("listing pods")?;
        Ok(node)
    });
    runtime.shutdown_background();
    found
}

struct Watching {
    settings: Settings,
    cluster: Cluster,
    on_pods: OnPods,
    /// The failure that lasts was told.
    told: bool,
}

impl Watching {
    async fn forever(&mut self) {
        let mut pause = self.settings.pause;
        loop {
            match self.watch(&mut pause).await {
                Ok(()) => {}
                Err(error) => self.failed(&error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE.max(self.settings.pause));
        }
    }

    /// Once for an outage: the next try fails for the same reason.
    fn failed(&mut self, error: &anyhow::Error) {
        self.cluster.set_failing(true);
        if self.told {
            debug!(error = %format!("{error:#}"), "The API server of Kubernetes still cannot be asked.");
        } else {
            warn!(
                error = %format!("{error:#}"),
                "The API server of Kubernetes cannot be asked: spans go without what only it knows of their pod."
            );
            self.told = true;
        }
    }

    fn works(&mut self, pause: &mut Duration) {
        self.cluster.set_failing(false);
        *pause = self.settings.pause;
        if std::mem::take(&mut self.told) {
            info!("The API server of Kubernetes answers again.");
        }
    }

    /// Until an error that needs a new client. Others are what the watch recovers from by itself.
    async fn watch(&mut self, pause: &mut Duration) -> Result<()> {
        let (client, namespace) = client(&self.settings).await?;
        let node = node(&self.settings, &client, &namespace).await?;
        debug!(%node, "Watching the pods of this node.");
        let pods: Api<PodObject> = Api::all(client);
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}")).page_size(PAGE);
        let mut events = pin!(watcher(pods, config));
        let (mut news, mut listed) = (HashSet::new(), HashSet::new());
        let mut listing = true;
        loop {
            let patience = match (listing, news.is_empty()) {
                (true, _) => ANSWER,
                // The watch has a limit of its own.
                (false, true) => Duration::from_secs(3600),
                (false, false) => TOGETHER,
            };
            let event = match timeout(patience, events.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => bail!("the watch ended"),
                Err(_) if listing => bail!("no answer in {} s", ANSWER.as_secs()),
                Err(_) => {
                    self.tell(&mut news);
                    continue;
                }
            };
            match event {
                Ok(watcher::Event::Init) => {
                    listing = true;
                    listed.clear();
                }
                Ok(watcher::Event::InitApply(object)) => {
                    listed.extend(object.uid().map(Box::from));
                    self.learn(object, &mut news);
                }
                Ok(watcher::Event::InitDone) => {
                    listing = false;
                    self.cluster.complete(&listed);
                    listed = HashSet::new();
                    self.works(pause);
                    info!(%node, pods = self.cluster.len(), "The pods of this node are known.");
                    self.tell(&mut news);
                }
                Ok(watcher::Event::Apply(object)) => {
                    self.works(pause);
                    self.learn(object, &mut news);
                }
                Ok(watcher::Event::Delete(object)) => {
                    if let Some(uid) = object.uid() {
                        self.cluster.forget(uid);
                    }
                }
                Err(error) => {
                    self.tell(&mut news);
                    // A watch that has become too old is listed anew; nothing is wrong.
                    if matches!(&error, watcher::Error::WatchError(status) if status.code == 410) {
                        continue;
                    }
                    return Err(anyhow::Error::new(error));
                }
            }
        }
    }

    fn learn(&self, object: PodObject, news: &mut HashSet<Box<str>>) {
        if let Some(pod) = object.pod() {
            let uid = pod.uid.clone();
            if self.cluster.learn(pod) {
                news.insert(uid);
            }
        }
    }

    fn tell(&mut self, news: &mut HashSet<Box<str>>) {
        if !news.is_empty() {
            // Not the client's: it would leave a lock behind that nobody can take, so it ends the process as elsewhere.
            if catch_unwind(AssertUnwindSafe(|| (self.on_pods)(news))).is_err() {
                error!("A change of pods could not be taken; giving up.");
                std::process::exit(70);
            }
            news.clear();
        }
    }
}
