//! Measures the git operations of a task. Run by hand: `cargo test --release --test it git_measure -- --ignored
//! --nocapture`.

use crate::git_world::{BRANCH, T1, World, commit_all, write};
use skep::ports::Workspaces;
use std::time::Instant;

#[tokio::test]
#[ignore = "a measurement, not a test"]
async fn git_operations_of_a_task() {
    for files in [100, 2_000, 20_000] {
        let w = World::new().await;
        for n in 0..files {
            write(
                &w.origin(),
                &format!("d{}/f{n}.txt", n % 97),
                format!("file {n}\n{}\n", "some text ".repeat(n % 50)),
            );
        }
        commit_all(&w.origin(), "Many");
        let mut row = format!("{files} files:");
        macro_rules! timed {
            ($what:literal, $work:expr) => {{
                let start = Instant::now();
                let result = $work;
                row.push_str(&format!(" {} {} ms,", $what, start.elapsed().as_millis()));
                result
            }};
        }
        let base = timed!("first fetch", w.base().await);
        timed!("repeated fetch", w.base().await);
        let dir = timed!("checkout", w.task(T1, &base).await);
        timed!("repeated checkout", w.task(T1, &base).await);
        write(&dir, "d1/f1.txt", "changed\n");
        write(&dir, "new.txt", "new\n");
        let head = timed!("commit", w.commit(T1, &base).await).unwrap().head;
        timed!("next attempt", w.task(T1, &head).await);
        timed!("check dir", w.work.check_dir(&w.repo, w.run, "c", &head).await.unwrap());
        timed!("push", w.work.push(&w.repo, &head, BRANCH, None).await.unwrap());
        timed!("release", w.work.release(&w.repo, w.run, BRANCH).await.unwrap());
        println!("{row}");
    }
}
