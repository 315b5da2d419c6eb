//! Sees to it that a container's image is on the board, as its pull policy says.

use std::time::Instant;

use edge_api::Object;
use edge_core::pod::{Observation, PullPolicy};

use super::effects::{Done, Job};
use super::events::Grade::{Normal, Warning};
use crate::images::{Progress, RegistryAuth};
use crate::volumes::{Reference, text_content};

impl Job {
    pub(crate) async fn ensure_image(
        self,
        container: String,
        image: String,
        policy: PullPolicy,
    ) -> Done {
        let present = self.board.images.find(&image).is_some();
        match policy {
            PullPolicy::Always => {}
            PullPolicy::IfNotPresent | PullPolicy::Never if present => {
                let text = format!("Container image \"{image}\" already present on machine");
                self.say(&container, Normal, "Pulled", text);
                return Done::Seen(Observation::ImageReady(container));
            }
            PullPolicy::Never => {
                let message =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                self.say(&container, Warning, "ErrImageNeverPull", message.clone());
                let reason = "ErrImageNeverPull".to_owned();
                return Done::Seen(Observation::ImageFailed { container, reason, message });
            }
            PullPolicy::IfNotPresent => {}
        }
        self.pull(container, image, policy == PullPolicy::Always).await
    }

    async fn pull(self, container: String, image: String, fresh: bool) -> Done {
        self.say(&container, Normal, "Pulling", format!("Pulling image \"{image}\""));
        let began = Instant::now();
        let auth = self.pull_secrets().await;
        match self.board.images.obtain(&image, &auth, fresh, &Progress::none()).await {
            Ok(pulled) => {
                let took = seconds(began);
                let all = self.board.images.list();
                let size = all.iter().find(|i| i.id == pulled.id).map_or(0, |i| i.bytes);
                let text = format!(
                    "Successfully pulled image \"{image}\" in {took} ({took} including waiting). \
                     Image size: {size} bytes."
                );
                self.say(&container, Normal, "Pulled", text);
                self.board.images_changed.notify_one();
                Done::Seen(Observation::ImageReady(container))
            }
            Err(error) => {
                let reason = error.reason().to_owned();
                let message = error.to_string();
                let text = format!("Failed to pull image \"{image}\": {message}");
                self.say(&container, Warning, "Failed", text);
                self.say(&container, Warning, "Failed", format!("Error: {reason}"));
                Done::Seen(Observation::ImageFailed { container, reason, message })
            }
        }
    }

    /// Credentials from the pod's `imagePullSecrets`. One that can't be read is passed over, with
    /// an event.
    async fn pull_secrets(&self) -> Vec<RegistryAuth> {
        let mut out = Vec::new();
        for wanted in self.pod.spec().image_pull_secrets.iter().flatten() {
            let reference = Reference::Secret(wanted.name.clone());
            let found = self.board.sources.fetch(self.pod.namespace(), &reference).await;
            let read = match found {
                Ok(Some(secret)) => credentials(&reference, &secret),
                Ok(None) => Err("it does not exist".into()),
                Err(error) => Err(error),
            };
            match read {
                Ok(mut auth) => out.append(&mut auth),
                Err(error) => {
                    let text = format!(
                        "Unable to retrieve some image pull secrets ({}); attempting to pull the \
                         image may not succeed: {error}",
                        wanted.name
                    );
                    let about = super::board::subject(&self.pod, None);
                    let reason = "FailedToRetrieveImagePullSecret";
                    self.board.events.say(&about, Warning, reason, text);
                }
            }
        }
        out
    }
}

fn credentials(reference: &Reference, secret: &Object) -> Result<Vec<RegistryAuth>, String> {
    let data = text_content(reference, secret)?;
    let parsed = if let Some(text) = data.get(".dockerconfigjson") {
        RegistryAuth::from_docker_config_json(text.as_bytes())
    } else if let Some(text) = data.get(".dockercfg") {
        RegistryAuth::from_dockercfg(text.as_bytes())
    } else {
        return Err("it has neither .dockerconfigjson nor .dockercfg".into());
    };
    parsed.map_err(|error| error.to_string())
}

/// How long ago that was, as Go prints durations below a minute.
fn seconds(since: Instant) -> String {
    let ms = since.elapsed().as_millis();
    if ms < 1000 { format!("{ms}ms") } else { format!("{}.{:03}s", ms / 1000, ms % 1000) }
}
