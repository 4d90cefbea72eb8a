//! Default of `policy.protected_paths`.

/// CI, code ownership and the rules that agents read decide what is proven and by whom; editors and hooks run what is
/// configured. So a person reviews changes to the files of the common tools. `README.md` is left out: it describes the
/// program, and honest work changes it every day.
#[rustfmt::skip]
pub const PROTECTED: &[&str] = &[
    // Skep itself, code ownership, and bots that merge
    ".skep.toml", "**/CODEOWNERS", "{.mergify.yml,.kodiak.toml,bors.toml}", "{renovate.json,.renovaterc}*",
    // Forges and CI
    ".github/**", ".gitlab/**", ".gitlab-ci*", ".gitlab-ci*/**", ".gitea/**", ".forgejo/**", ".ci/**", ".circleci/**",
    ".woodpecker*", ".woodpecker*/**", ".drone.*", ".travis.*", ".buildkite/**",
    "{azure-pipelines,.azure-pipelines}*", "{azure-pipelines,.azure-pipelines,.azuredevops}*/**",
    "bitbucket-pipelines.yml", "**/Jenkinsfile*", ".cirrus.*", "{appveyor,.appveyor}.y*ml",
    "**/cloudbuild*.{json,yaml,yml}", "**/buildspec*.y*ml", ".semaphore/**", "codemagic.yaml", ".teamcity/**",
    "{bitrise,.bitrise}.yml", ".build.yml", ".builds/**", ".tekton/**", "{zuul,.zuul}.{yaml,yml}",
    "{zuul,.zuul}.d/**",
    // Instructions to contributors and agents
    "**/AGENTS*.md", "**/CLAUDE*.md", "**/GEMINI*.md", "**/{AGENT,CONTRIBUTING,CONVENTIONS,CRUSH,QWEN,WARP}.md",
    "**/.{agent,agents,aiassistant,amazonq,claude,cline,codex,crush,cursor,devin,factory,gemini}/**",
    "**/.{goose,junie,kiro,openhands,opencode,pi,qwen,trae,windsurf}/**",
    "**/.{aider,augment,clinerules,continue,kilocode,roo}*/**",
    "**/.{aider,augment,clinerules,continue,cursorrules,goosehints,kilocode,roo,rules,windsurfrules}*",
    "**/{opencode,.opencode,crush,.crush}.json*", "**/.mcp.json",
    // Editors, hooks and environments that run what they find
    "**/.{devcontainer,fleet,githooks,husky,idea,idx,lefthook,vs,vscode,zed}/**", "**/.devcontainer.json",
    "**/.gitpod.*", "**/*.code-workspace", "**/{.dir-locals.el,.exrc,.nvim.lua,.nvimrc}", "{lefthook,.lefthook}*",
    "**/.pre-commit-*.yaml", "**/.overcommit.yml", "**/.envrc", "**/.gitattributes", "**/.gitconfig",
];
