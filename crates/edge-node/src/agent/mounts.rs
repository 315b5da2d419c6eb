//! The effects on a pod's volumes: set up, brought up to date, taken down; and what they are made
//! from, asked for first.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_core::pod::Observation;

use super::effects::{Done, Job, RETRY};
use super::events::Grade::Warning;
use super::spec::Material;
use super::tokens::NoToken;
use crate::fields::Fields;
use crate::volumes::{self, Reference, Scene, Tokens};

impl Job {
    /// The objects that `references` name, as far as they exist.
    pub(super) async fn material(&self, references: Vec<Reference>) -> Result<Material, String> {
        let mut out = Material::new();
        for reference in references {
            let object = self.board.sources.fetch(self.pod.namespace(), &reference).await?;
            out.insert(reference, object);
        }
        Ok(out)
    }

    pub(crate) async fn mount_volumes(self) -> Done {
        match self.clone().try_mount().await {
            Ok(found) => Done::Volumes(found),
            Err(message) => {
                self.say_pod(Warning, "FailedMount", message.clone());
                Done::Seen(Observation::VolumesFailed(message))
            }
        }
    }

    async fn try_mount(self) -> Result<BTreeMap<String, PathBuf>, String> {
        let references = volumes::references(self.pod.spec());
        self.board.sources.follow(self.pod.uid(), self.pod.namespace(), &references);
        let stuff = self.stuff(references).await?;
        self.on_disk(stuff, |scene| volumes::set_up(scene).map_err(|e| e.to_string())).await
    }

    /// What volumes are made from: objects and tokens, asked for at the same time.
    async fn stuff(&self, references: Vec<Reference>) -> Result<(Material, Tokens), String> {
        let wanted = volumes::tokens(self.pod.spec());
        let tokens = self.board.tokens.get(&self.pod, &wanted);
        let (material, (tokens, missing)) = tokio::join!(self.material(references), tokens);
        match missing {
            None => {}
            // From the ledger, with no server in reach: it gets its token when one is.
            Some(NoToken::Unreachable(why)) if !self.pod.is_from_api() => {
                tracing::info!("pod {} goes without a new token: {why}", self.pod.label());
            }
            Some(NoToken::Unreachable(why) | NoToken::Refused(why)) => return Err(why),
        }
        Ok((material?, tokens))
    }

    /// Brings files of volumes up to date with objects or metadata that have changed.
    pub(crate) async fn refresh_volumes(self) -> Done {
        let references = volumes::references(self.pod.spec());
        let result = match self.stuff(references).await {
            Ok(stuff) => {
                let work = |scene: &Scene<'_>| volumes::refresh(scene).map_err(|e| e.to_string());
                self.clone().on_disk(stuff, work).await.map(drop)
            }
            Err(message) => Err(message),
        };
        if let Err(message) = result {
            self.say_pod(Warning, "FailedMount", message);
        }
        Done::Nothing
    }

    /// Runs blocking work on the pod's volumes.
    async fn on_disk<T: Send + 'static>(
        self,
        (material, tokens): (Material, Tokens),
        work: impl FnOnce(&Scene<'_>) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let task = tokio::task::spawn_blocking(move || {
            let host_ips = self.host_ips();
            let fields = Fields {
                pod: &self.pod,
                node: &self.board.name,
                host_ips: &host_ips,
                pod_ips: &self.ips,
                allocatable: &self.board.allocatable,
            };
            let pod_dir = self.board.pod_dir(self.pod.uid());
            let spec = self.pod.spec();
            let (fields, material, tokens) = (&fields, &material, &tokens);
            work(&Scene { pod_dir: &pod_dir, spec, fields, material, tokens })
        });
        task.await.unwrap_or_else(|error| Err(format!("set up volumes: {error}")))
    }

    pub(crate) async fn unmount_volumes(self) -> Done {
        self.board.sources.release(self.pod.uid());
        self.board.tokens.release(self.pod.uid());
        loop {
            let dir = self.board.pod_dir(self.pod.uid());
            let task = tokio::task::spawn_blocking(move || volumes::take_down(&dir));
            match task.await {
                Ok(Ok(())) => return Done::Seen(Observation::VolumesGone),
                Ok(Err(error)) => tracing::warn!("volumes of {}: {error}", self.pod.label()),
                Err(error) => tracing::warn!("volumes of {}: {error}", self.pod.label()),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
