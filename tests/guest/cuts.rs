//! A board that loses its power again and again while it writes: a guest whose data lies on an
//! ext4, on a disk with a write-back cache that is dropped with the power. It boots again from
//! what was left, and has all that was acknowledged. Between two boots, many more cuts are made
//! from the record of the disk, and `edged` is started on each.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_client::{Client, Config};

use super::files::Files;
use super::kernel::Kernel;
use super::lan::Lan;
use super::machine::Guest;
use super::maps::{Acks, Writer, check, read};
use crate::board::machine::built;
use crate::lab::{cargo, namespace::Namespace};
use crate::power::{self, Cutter, Disk, Fate, Left, Record};
use crate::store::{Directory, Random};

/// MiB of the board's disk.
const DISK: u64 = 192;
/// How often the board is booted; `EDGED_POWER_BOOTS`.
const BOOTS: usize = 3;
/// Cuts made from the record of each life; `EDGED_POWER_CUTS`.
const CUTS: usize = 20;
/// Images, of which each life loads one and runs a pod of it.
const IMAGES: usize = 10;
/// Bytes of each image beside its shell.
const NOISE: usize = 300_000;
/// Seconds of work before the power goes, at least and at most.
const WORK: (u64, u64) = (4, 30);
/// Longest that is waited for something that the cut can lose.
const DIRTY: Duration = Duration::from_secs(3);
/// Longest that `edged` may take to answer on what a cut has left.
const PATIENCE: Duration = Duration::from_secs(60);
const PLACE: &str = "192.168.71.2";

/// What the board does besides the writes that come from outside.
const SCRIPT: &str = "
edged ctl image load /files/box-$1.tar > /tmp/load 2>&1 && echo image $1 >> /tmp/done
sed s/NUMBER/$1/g /files/pod.yaml > /tmp/pod.yaml
edged ctl apply -f /tmp/pod.yaml > /tmp/apply 2>&1 && echo pod $1 >> /tmp/done
";
const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pod-NUMBER}
spec:
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - name: c
    image: example.org/box-NUMBER:1
    imagePullPolicy: IfNotPresent
    command: [/bin/busybox, sleep, '100000']
";

/// All that stays while the board comes and goes.
struct Scene {
    kernel: Kernel,
    boot: PathBuf,
    lan: Lan,
    /// Where `edged` is started on what a cut has left.
    bench: Namespace,
    disk: Arc<Disk>,
    dir: Directory,
    acks: Acks,
}

impl Scene {
    fn new() -> Scene {
        let dir = Directory::new();
        let kernel = Kernel::find();
        let mut files = Files::new(&kernel, &["virtio_blk"]).program(&built("edged"));
        for number in 0..IMAGES {
            let archive = dir.0.join("box.tar");
            let name = format!("example.org/box-{number}:1");
            cargo::named(&archive, &name, NOISE, number as u64 + 1);
            files = files.file(&format!("box-{number}.tar"), &std::fs::read(&archive).unwrap());
        }
        files = files.file("work.sh", SCRIPT.as_bytes()).file("pod.yaml", POD.as_bytes());
        let boot = dir.0.join("boot");
        std::fs::write(&boot, files.finish()).expect("a disk to boot from");
        let lan = Lan::new("cuts");
        lan.tap("ta");
        lan.namespace.ip("addr add 192.168.71.1/24 dev ta\n");
        let bench = Namespace::new(&format!("edt-{}-bench", std::process::id()));
        bench.ip(&format!(
            "link add lan0 type bridge\naddr add {PLACE}/24 dev lan0\nlink set lan0 up\n"
        ));
        let disk = Arc::new(Disk::new(power::empty(&dir.0, DISK)));
        power::serve(disk.clone(), &dir.0.join("nbd"));
        Scene { kernel, boot, lan, bench, disk, dir, acks: Acks::default() }
    }

    /// Boots the board and waits until `edged` answers there; gives a client for it.
    fn start(&self) -> (Guest, Client) {
        let socket = self.dir.0.join("nbd").display().to_string();
        let drive = format!("file=nbd+unix:///?socket={socket},format=raw,if=none,id=d");
        let more = ["-drive", &drive, "-device", "virtio-blk-pci,drive=d"];
        let mut guest = Guest::start_with("a", &self.kernel, &self.boot, &self.lan, &["ta"], &more);
        guest.booted();
        guest.ok("hostname a; mkdir -p /var/lib/edged; mount -t ext4 /dev/vda /var/lib/edged");
        guest.ok(&format!("ip addr add {PLACE}/24 dev eth0 && ip link set eth0 up"));
        guest.ok("ip route add default via 192.168.71.1");
        let line = "edged server --name a --silent-after 30s --node-grace 90s";
        guest.ok(&format!("setsid {line} >> /tmp/log 2>&1 & echo $! > /tmp/pid"));
        guest.until("edged ctl get nodes; tail -n 3 /tmp/log", |text| text.contains(" Ready"));
        let config = self.dir.0.join("kubeconfig");
        std::fs::write(&config, guest.ok("cat /var/lib/edged/admin.kubeconfig")).unwrap();
        let config = Config::from_kubeconfig(&config, None).expect("a kubeconfig");
        let client = Client::new(config).expect("a client");
        client.set_servers(&[format!("https://{PLACE}:6443")]).expect("an address");
        (guest, client)
    }

    /// All that was acknowledged is there, and its pods run again.
    fn verify(&self, guest: &mut Guest, client: &Client) {
        let found = self.lan.namespace.within(|| read(client, PATIENCE)).expect("an answer");
        check(&found, &self.acks.before(usize::MAX)).unwrap();
        let images = guest.ok("edged ctl image list");
        for image in &self.acks.images {
            assert!(images.contains(&format!("box-{image}:1")), "{image}: {images}");
        }
        let pods = &self.acks.pods;
        guest.until("edged ctl get pods", |text| {
            let runs = |line: &&str| line.contains(" Running");
            let running: Vec<&str> = text.lines().filter(runs).collect();
            pods.iter().all(|n| running.iter().any(|l| l.starts_with(&format!("pod-{n} "))))
        });
    }

    /// One life: boot, verification, work until the power goes. Gives the disk's record.
    fn live(&mut self, life: usize, random: &mut Random) -> Record {
        let begin = Instant::now();
        let (mut guest, client) = self.start();
        let ready = begin.elapsed();
        self.verify(&mut guest, &client);
        let verified = begin.elapsed();
        let writer = Writer::start(&self.lan.namespace, client, self.disk.clone());
        let image = life % IMAGES;
        guest.ok(&format!("setsid sh /files/work.sh {image} > /dev/null 2>&1 & true"));
        let work = Duration::from_millis(WORK.0 * 1000 + random.below((WORK.1 - WORK.0) * 1000));
        let end = Instant::now() + work;
        while Instant::now() < end {
            let (_, text) = guest.shell("cat /tmp/done");
            self.acks.done(self.disk.moment(), &text);
            std::thread::sleep(Duration::from_millis(200));
        }
        // Most of the time nothing is on its way: the moments are waited for when something is.
        let end = Instant::now() + DIRTY;
        while !self.disk.is_dirty() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(100));
        }
        // SIGKILL, and nothing said to anybody.
        drop(guest);
        self.acks.maps.extend(writer.stop());
        let (all, images, pods) =
            (self.acks.maps.len(), self.acks.images.len(), self.acks.pods.len());
        println!(
            "life {life}: ready after {ready:.0?}, as before after {verified:.0?}, power cut after \
             {work:.0?}; acknowledged so far: {all} writes, {images} images, {pods} pods"
        );
        self.disk.take()
    }

    /// Cuts the record of a life at random moments, starts `edged` on each, and lets the last cut
    /// be the one from which the board boots again.
    fn cut(&mut self, record: &Record, cuts: usize, random: &mut Random) -> Vec<String> {
        let events = record.events.len() as u64;
        let mut moments: Vec<usize> =
            (0..cuts).map(|_| random.below(events + 1) as usize).collect();
        moments.sort_unstable();
        let (mut cutter, mut bad, mut lossy) = (Cutter::new(record), Vec::new(), 0);
        for moment in moments {
            cutter.go(moment);
            lossy += usize::from(cutter.pending() > 0);
            let fate = Fate::draw(cutter.pending(), random);
            if let Err(why) = self.judge(&cutter.image(fate), moment) {
                bad.push(format!("at {moment} of {events}, {fate:?}: {why}"));
            }
        }
        cutter.go(record.events.len());
        let fate = Fate::draw(cutter.pending(), random);
        println!(
            "  {events} events; {cuts} cuts, {lossy} with writes to lose, {} bad; boots with \
             {fate:?} of {}",
            bad.len(),
            cutter.pending()
        );
        self.disk.restore(&cutter.image(fate));
        self.acks.rebase();
        bad
    }

    /// Mounts what a cut has left, looks at images and ledger, and starts `edged` on it.
    fn judge(&self, image: &[u8], moment: usize) -> Result<(), String> {
        let quick = Directory::quick();
        let left = Left::mount(image, &quick.0)?;
        let data = left.path();
        power::leftovers::check(data, &self.acks.images_before(moment))?;
        let log = quick.0.join("log");
        let mut command = self.bench.command(built("edged"));
        command.args(["server", "--no-agent", "--name", "a", "--node-ip", PLACE]);
        command.arg("--data-dir").arg(data).arg("--run-dir").arg(quick.0.join("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(&log).expect("a file"));
        let mut child = command.spawn().expect("edged starts");
        let verdict = self.ask(data).and_then(|found| check(&found, &self.acks.before(moment)));
        let ended = child.try_wait().ok().flatten();
        let _ = child.kill();
        let _ = child.wait();
        verdict.map_err(|why| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!("{why}; ended: {ended:?}; it said: {said}")
        })
    }

    fn ask(&self, data: &Path) -> Result<super::maps::Found, String> {
        let path = data.join("admin.kubeconfig");
        let end = Instant::now() + PATIENCE;
        while !path.exists() {
            if Instant::now() > end {
                return Err("no kubeconfig".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.bench.within(|| {
            let config = Config::from_kubeconfig(&path, None).map_err(|e| e.to_string())?;
            let client = Client::new(config).map_err(|e| e.to_string())?;
            read(&client, PATIENCE)
        })
    }
}

fn named(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

#[test]
fn a_board_keeps_what_it_acknowledged_through_power_cuts() {
    if !super::asked() || !power::can_run() {
        return;
    }
    let (boots, cuts) = (named("EDGED_POWER_BOOTS", BOOTS), named("EDGED_POWER_CUTS", CUTS));
    let mut random = Random(power::seed() | 1);
    let mut scene = Scene::new();
    let mut bad = Vec::new();
    for life in 0..boots {
        let record = scene.live(life, &mut random);
        bad.extend(scene.cut(&record, cuts, &mut random));
    }
    let (mut guest, client) = scene.start();
    scene.verify(&mut guest, &client);
    println!("{boots} power cuts with a boot behind each, {} cuts of their records", boots * cuts);
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad.join("\n"));
}
