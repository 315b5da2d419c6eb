//! A program that comes in as a request's body: judged before it is read as far as that goes,
//! streamed to the disk under a cap while it is hashed, and judged again before it gets a slot.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use edge_api::release::{Look, Version};
use edge_core::upgrade::{Blake2b, Brought, Installed, Signature, Slot, State};
use http_body_util::BodyExt;
use hyper::body::Body;
use ring::digest;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::home::hex;
use super::{Home, UpgradeError, Upgrades, architecture};

/// The longest program that is taken. A debug build has a fifth of it, a release a twentieth.
pub(crate) const MOST_BYTES: u64 = 256 << 20;
/// What stays free on the disk beside the program.
const SPARE_BYTES: u64 = 16 << 20;
/// How long the next piece may be waited for.
const STALL: Duration = Duration::from_secs(30);

/// What somebody says of the program that they bring.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// Its length.
    pub(crate) bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
    /// The text of its `.minisig` file.
    pub(crate) signature: Option<String>,
    /// Whether an administrator vouches for it, where the board knows no keys.
    pub(crate) unsigned: bool,
    /// Whether it is meant to be older than what runs.
    pub(crate) downgrade: bool,
}

/// What is known of a program once all of it was read.
struct Arrived {
    look: Look,
    sha256: String,
    blake2b: [u8; 64],
}

/// What is still arriving. It goes with whoever waits for it, also when that one is cancelled;
/// once it has its slot, there is nothing left to go.
struct Arriving<'a>(&'a Home);

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.arriving());
    }
}

impl Upgrades {
    /// Takes a program in; gives where it is and its version. Refused, nothing has changed.
    pub(crate) async fn receive<B>(
        &self,
        offer: &Offer,
        body: B,
    ) -> Result<(Slot, Version), UpgradeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let Ok(_one) = self.busy.try_lock() else { return Err(UpgradeError::Busy) };
        let signature = self.signature(offer)?;
        // What a process left here that was killed takes room from what comes.
        drop(Arriving(&self.home));
        self.room(offer)?;
        let _arriving = Arriving(&self.home);
        let arrived = self.stream(offer, body).await?;
        let version = self.judge(offer, signature.as_ref(), arrived)?;
        let slot = self.state().free();
        self.put(slot, &version, offer)?;
        tracing::info!("edged {version} was brought to slot {}", slot.name());
        Ok((slot, version))
    }

    /// Whether a program of which this is said would be taken: all that can be told without it.
    pub(crate) fn check(
        &self,
        offer: &Offer,
        version: &Version,
        arch: &str,
    ) -> Result<(), UpgradeError> {
        if arch != architecture() {
            let (its, own) = (arch.to_owned(), architecture());
            return Err(UpgradeError::Arch { its, own });
        }
        self.admit(version, offer)?;
        self.signature(offer)?;
        if let Ok(_one) = self.busy.try_lock() {
            drop(Arriving(&self.home));
        }
        self.room(offer)
    }

    fn admit(&self, version: &Version, offer: &Offer) -> Result<(), UpgradeError> {
        if *version == self.own.version {
            return Err(UpgradeError::Same(version.clone()));
        }
        let base = self.base_version();
        let brought = Brought { new: version, downgrade: offer.downgrade };
        let admitted = self.state().admits(&self.own.version, base.as_ref(), brought);
        admitted.map_err(UpgradeError::Refused)
    }

    /// The signature, where one is asked for. Read before the file, as most mistakes show here.
    fn signature(&self, offer: &Offer) -> Result<Option<Signature>, UpgradeError> {
        match (&offer.signature, self.keys.is_empty()) {
            (Some(text), false) => {
                Signature::parse(text).map(Some).map_err(UpgradeError::Signature)
            }
            (None, false) => Err(UpgradeError::Unsigned),
            (_, true) if offer.unsigned => Ok(None),
            (_, true) => Err(UpgradeError::NoKeys),
        }
    }

    fn room(&self, offer: &Offer) -> Result<(), UpgradeError> {
        if offer.bytes > MOST_BYTES {
            return Err(UpgradeError::TooLarge { bytes: offer.bytes, most: MOST_BYTES });
        }
        let made = self.home.made();
        let dir = made.map_err(|e| UpgradeError::io("make", self.home.file(), e))?;
        let needs = offer.bytes + SPARE_BYTES;
        match (self.free)(dir) {
            Some(free) if free < needs => Err(UpgradeError::NoRoom { needs, free }),
            _ => Ok(()),
        }
    }

    async fn stream<B>(&self, offer: &Offer, mut body: B) -> Result<Arrived, UpgradeError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let path = self.home.arriving();
        let failed = |error| UpgradeError::io("write", self.home.arriving(), error);
        let options = &mut OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
        let mut look = Look::default();
        let (mut sha256, mut blake2b) = (digest::Context::new(&digest::SHA256), Blake2b::default());
        loop {
            let stalled = || UpgradeError::Broken("nothing came for 30 s".to_owned());
            let frame = tokio::time::timeout(STALL, body.frame()).await;
            let Some(frame) = frame.map_err(|_| stalled())? else { break };
            let frame = frame.map_err(|error| UpgradeError::Broken(error.to_string()))?;
            let Some(piece) = frame.data_ref() else { continue };
            look.take(piece);
            if look.bytes() > offer.bytes {
                return Err(UpgradeError::Length { said: offer.bytes, came: look.bytes() });
            }
            sha256.update(piece);
            blake2b.update(piece);
            file.write_all(piece).map_err(failed)?;
        }
        if look.bytes() != offer.bytes {
            return Err(UpgradeError::Length { said: offer.bytes, came: look.bytes() });
        }
        Ok(Arrived { look, sha256: hex(&sha256.finish()), blake2b: blake2b.finish() })
    }

    /// Whether what came may run here.
    fn judge(
        &self,
        offer: &Offer,
        signature: Option<&Signature>,
        arrived: Arrived,
    ) -> Result<Version, UpgradeError> {
        if arrived.sha256 != offer.sha256 {
            return Err(UpgradeError::Digest);
        }
        let found = arrived.look.found().map_err(UpgradeError::File)?;
        if found.arch != architecture() {
            return Err(UpgradeError::Arch { its: found.arch.to_owned(), own: architecture() });
        }
        if let Some(signature) = signature {
            let verified = signature.verify(&self.keys, &arrived.blake2b, ed25519);
            verified.map_err(UpgradeError::Signature)?;
        }
        self.admit(&found.version, offer)?;
        Ok(found.version)
    }

    /// Puts the program into its slot. The state is told before that the slot holds nothing, so
    /// that a power cut leaves no slot that is not what the state says.
    fn put(&self, slot: Slot, version: &Version, offer: &Offer) -> Result<(), UpgradeError> {
        let kept = |error| UpgradeError::io("write", self.home.file(), error);
        let clear = |state: &mut State| {
            let held = state.slot(slot).is_some();
            state.clear(slot);
            held
        };
        self.home.change(clear).map_err(kept)?;
        let settled = self.home.settle(slot);
        settled.map_err(|e| UpgradeError::io("write", self.home.program(slot), e))?;
        let (version, digest) = (version.clone(), offer.sha256.clone());
        let program = Installed { version, digest, bytes: offer.bytes, proven: false };
        let install = |state: &mut State| {
            state.install(slot, program);
            true
        };
        self.home.change(install).map_err(kept)
    }
}

/// Bytes that are free on the disk beneath `dir`.
#[allow(clippy::useless_conversion, reason = "the fields are narrower on 32-bit boards")]
pub(super) fn disk_free(dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).ok()?;
    Some(u64::from(stat.blocks_available()) * u64::from(stat.fragment_size()))
}

/// One signature of Ed25519.
pub(super) fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}
