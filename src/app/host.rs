//! The use cases of this installation, carried out with the concrete adapters.

use super::program::{Program, prepare};
use super::{
    add_forge, backup, configure, doctor, forges, gc, notify, probe, prompts, restore, runners, sandbox, vault_of,
    verify,
};
use crate::actors::Scope;
use crate::adapters::checks::repo_file::NAME as RULES_FILE;
use crate::adapters::{demo, store};
use crate::domain::{ProjectName, Role};
use crate::platform::git::{Git, Identity, uncommitted_files};
use crate::platform::sandbox::Sandbox;
use crate::service::host::{
    AddedForge, AllowedHosts, BackupReport, BackupRequest, CleanupReport, CleanupRequest, DemoSetup, Diagnosis,
    EngineOffer, EngineRow, EngineTest, ForgeRow, ForgeTest, Host, HostContext, HostError, HostResult, IsolationLevel,
    NewForge, NotifyTest, RunnerRow, RunnerTest, SandboxTest, SchemaStep, Setting, StepPrompt, Uncommitted,
    Verification,
};
use crate::telemetry;
use async_trait::async_trait;
use std::path::Path;
use tokio::sync::mpsc;

/// Maximum number of demo projects in one data directory.
const MAX_DEMOS: u32 = 1_000;

#[async_trait]
impl Host for Program {
    async fn settings(&self, context: &HostContext) -> HostResult<Vec<Setting>> {
        let loaded = self.loaded(context)?;
        Ok(loaded
            .explain()
            .iter()
            .map(|e| Setting { key: e.key.to_string(), value: e.value.clone(), source: e.source.clone() })
            .collect())
    }

    async fn migrate(&self, context: &HostContext, status_only: bool) -> HostResult<Vec<SchemaStep>> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        let url = config.store.database.url(&context.sources.data_dir);
        if !status_only {
            store::migrate(url.expose()).await?;
        }
        let schema = store::status(url.expose()).await?;
        if !schema.unknown.is_empty() {
            return Err(HostError::config(
                format!("the store's schema is newer than this version of Skep: {}", schema.unknown.join(", ")),
                "start the newer Skep that migrated it, or restore the backup taken before",
            ));
        }
        let step = |applied: bool| move |name: String| SchemaStep { name, applied };
        Ok(schema.applied.into_iter().map(step(true)).chain(schema.pending.into_iter().map(step(false))).collect())
    }

    async fn backup(&self, context: &HostContext, request: &BackupRequest) -> HostResult<BackupReport> {
        backup::create(self, context, request).await
    }

    async fn restore(&self, context: &HostContext, from: &Path) -> HostResult<BackupReport> {
        restore::restore(self, context, from).await
    }

    async fn verify(&self, context: &HostContext) -> HostResult<Verification> {
        verify::verify(self, context).await
    }

    async fn gc(&self, context: &HostContext, request: &CleanupRequest) -> HostResult<CleanupReport> {
        gc::run(self, context, request).await
    }

    async fn doctor(&self, context: &HostContext) -> HostResult<Diagnosis> {
        Ok(doctor::diagnose(context).await)
    }

    async fn list_engines(&self, context: &HostContext) -> HostResult<Vec<EngineRow>> {
        let config = self.config(context)?;
        let policy = sandbox::policy(&config, &context.sources.data_dir);
        Ok(probe::list(&config, Sandbox::isolated(&policy, &[], None).ok().as_ref()).await)
    }

    async fn test_engine(
        &self,
        context: &HostContext,
        engine: &str,
        output: mpsc::Sender<String>,
    ) -> HostResult<EngineTest> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        telemetry::install_crypto();
        let selected = probe::select(&config, engine)?;
        let sandbox = sandbox::enter(&config, context, Scope::Asked).await?;
        probe::test(&config, &context.sources.data_dir, &sandbox, selected, output).await
    }

    async fn offer_engines(&self, context: &HostContext) -> HostResult<Vec<EngineOffer>> {
        let config = self.config(context)?;
        let policy = sandbox::policy(&config, &context.sources.data_dir);
        let view = Sandbox::isolated(&policy, &[], None).ok();
        let found = doctor::Found::on_this_machine(&config, view.as_ref()).await;
        Ok(doctor::offers(&config, &found))
    }

    async fn find_engine(&self, context: &HostContext, name: &str) -> HostResult<String> {
        let config = self.config(context)?;
        let policy = sandbox::policy(&config, &context.sources.data_dir);
        let view = Sandbox::isolated(&policy, &[], None).ok();
        let found = doctor::Found::on_this_machine(&config, view.as_ref()).await;
        doctor::named(&config, &found, name)
    }

    async fn uncommitted(&self, _context: &HostContext, folder: &Path) -> HostResult<Option<Uncommitted>> {
        let git = Git::find(Identity::default()).await?;
        let Some(found) = uncommitted_files(&git, folder).await? else { return Ok(None) };
        let count = |all: &[String]| u64::try_from(all.len()).unwrap_or(u64::MAX);
        let rules = found.changed.iter().chain(&found.untracked).any(|path| path == RULES_FILE);
        Ok(Some(Uncommitted { changed: count(&found.changed), untracked: count(&found.untracked), rules }))
    }

    async fn prompts(&self, context: &HostContext, project: Option<&str>) -> HostResult<Vec<StepPrompt>> {
        prompts::in_force(&self.config(context)?, project)
    }

    async fn test_sandbox(&self, context: &HostContext, level: Option<IsolationLevel>) -> HostResult<SandboxTest> {
        sandbox::test(&self.config(context)?, context, level).await
    }

    async fn list_runners(&self, context: &HostContext) -> HostResult<Vec<RunnerRow>> {
        Ok(runners::list(&self.config(context)?))
    }

    async fn test_runner(&self, context: &HostContext, name: &str) -> HostResult<RunnerTest> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        runners::test(&config, &context.sources.data_dir, name).await
    }

    async fn list_forges(&self, context: &HostContext) -> HostResult<Vec<ForgeRow>> {
        Ok(forges::list(&self.config(context)?))
    }

    async fn test_forge(&self, context: &HostContext, name: &str, repo: Option<&str>) -> HostResult<ForgeTest> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        let vault = vault_of(&config, &context.sources.data_dir).await?;
        forges::test(&config, vault, name, repo).await
    }

    async fn add_forge(&self, context: &HostContext, new: &NewForge) -> HostResult<AddedForge> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        let vault = vault_of(&config, &context.sources.data_dir).await?;
        add_forge::add(context, &config, vault, new).await
    }

    async fn test_notify(&self, context: &HostContext, name: &str) -> HostResult<NotifyTest> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        self.init_logs(context, &config, false)?;
        notify::test(&config, name).await
    }

    async fn allow_hosts(&self, context: &HostContext, project: &str, hosts: &[String]) -> HostResult<AllowedHosts> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        let project =
            ProjectName::new(project).map_err(|why| HostError::usage(why, "`skep project list` lists the projects"))?;
        configure::allow_hosts(context, &config, &project, hosts)
    }

    async fn add_config(&self, context: &HostContext, addition: &str) -> HostResult<String> {
        prepare(&context.sources.data_dir, &self.config(context)?)?;
        Ok(configure::add(context, addition)?.display().to_string())
    }

    async fn prepare_demo(&self, context: &HostContext) -> HostResult<DemoSetup> {
        let config = self.config(context)?;
        prepare(&context.sources.data_dir, &config)?;
        let root = context.sources.data_dir.join("demo");
        for n in 1..=MAX_DEMOS {
            let dir = root.join(n.to_string());
            // An interrupted demo is resumed; one that has landed makes room for the next.
            let sample = match demo::untouched(&dir) {
                Some(sample) => sample,
                None if dir.join("tally.git").exists() => continue,
                None => demo::write_to(&dir).await?,
            };
            let engine = format!("{}:{}", sample.engine.kind, sample.engine.arg);
            let roles = [Role::Manager, Role::Scout, Role::Dev, Role::Reviewer];
            return Ok(DemoSetup {
                notice: demo::NOTICE.to_owned(),
                repo: sample.repo.to_string_lossy().into_owned(),
                base: sample.base,
                goal: sample.goal,
                engines: roles.into_iter().map(|role| (role, engine.clone())).collect(),
                checks: vec![demo::CHECK.to_owned()],
            });
        }
        Err(HostError::usage(
            format!("{} already holds {MAX_DEMOS} demos", root.display()),
            "remove that directory, or choose another --data-dir",
        ))
    }
}
