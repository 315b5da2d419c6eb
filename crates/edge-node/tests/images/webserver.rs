//! The example image, made of this very test program: its files must be all that it takes to run
//! in a root of their own.

use crate::tools::{Room, run, skipped};
use edge_node::images::{ImageStore, ImagesConfig, Progress, build};
use std::process::Command;

#[tokio::test]
async fn the_example_image_has_all_that_its_program_needs() {
    if skipped("the_example_image_has_all_that_its_program_needs", &["chroot"]) {
        return;
    }
    let room = Room::new("webserver");
    let mut file = std::fs::File::create(room.path("web.tar")).unwrap();
    let name = build::webserver(&mut file).unwrap();
    assert_eq!(name, "edged/webserver:1");
    let store = ImageStore::open(&room.path("store"), ImagesConfig::default()).unwrap();
    let archive = tokio::fs::File::open(room.path("web.tar")).await.unwrap();
    let loaded = store.load(archive, &Progress::none()).await.unwrap();
    assert_eq!(loaded, ["docker.io/edged/webserver:1"]);
    let image = store.find(&name).unwrap();
    assert_eq!(image.config.entrypoint, ["/edged", "webserver"]);
    assert_eq!(image.config.user, "65534:65534");
    // Here `/edged` is this test program, which lists its tests when asked to.
    let root = room.overlay("root", &image.layers);
    let listed = run("chroot", &[root.to_str().unwrap(), "/edged", "--list"]);
    assert!(listed.contains("the_example_image_has_all_that_its_program_needs"), "{listed}");
    // The same files give the same image, on every run.
    let mut again = Vec::new();
    build::webserver(&mut again).unwrap();
    assert_eq!(std::fs::read(room.path("web.tar")).unwrap(), again);
    let tar = Command::new("tar").args(["-tf", &room.text("web.tar")]).status().unwrap();
    assert!(tar.success());
}
