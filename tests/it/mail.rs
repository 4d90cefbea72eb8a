//! Messages by e-mail: one for each recipient, readable by other programs, and never in clear over a network.

use skep::adapters::notify::Email;
use skep::adapters::notify::settings::{EmailSettings, MailServer, Protection};
use skep::domain::{ChannelRules, Message, MessageEvent, RunId, Timestamp};
use skep::ports::messages::Channel;
use skep::secrets::Secret;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a mail server was told.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub commands: Vec<String>,
    pub mails: Vec<String>,
}

/// A mail server that refuses recipients whose address contains `refused`.
pub struct MailSink {
    pub port: u16,
    received: Arc<Mutex<Received>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailSink {
    pub async fn start() -> MailSink {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let received = Arc::new(Mutex::new(Received::default()));
        let all = received.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client may leave at any moment.
                tokio::spawn(converse(stream, all.clone()));
            }
        });
        MailSink { port, received, task }
    }

    pub fn received(&self) -> Received {
        self.received.lock().expect("no panic").clone()
    }
}

async fn converse(stream: TcpStream, received: Arc<Mutex<Received>>) -> std::io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut lines = BufReader::new(reading).lines();
    writing.write_all(b"220 sink.example ESMTP\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        received.lock().expect("no panic").commands.push(line.clone());
        let answer: &[u8] = match line.split(' ').next().unwrap_or_default() {
            "EHLO" => b"250-sink.example\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            "AUTH" => b"235 welcome\r\n",
            "RCPT" if line.contains("refused") => b"550 5.1.1 nobody \x1b[31mhere\r\n",
            "DATA" => {
                writing.write_all(b"354 go\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.push_str(line.strip_prefix('.').unwrap_or(&line));
                    mail.push_str("\r\n");
                }
                received.lock().expect("no panic").mails.push(mail);
                b"250 queued\r\n"
            }
            "QUIT" => b"221 bye\r\n",
            _ => b"250 ok\r\n",
        };
        writing.write_all(answer).await?;
    }
    Ok(())
}

fn channels(port: u16, protection: Protection, to: &[&str]) -> Vec<Email> {
    let settings = EmailSettings {
        server: MailServer { host: "127.0.0.1".to_owned(), port, protection },
        user: "skep".to_owned(),
        password: Some(Secret::new("mail-password-1")),
        from: "Skep <skep@factory.example>".to_owned(),
        to: to.iter().map(|to| (*to).to_owned()).collect(),
        personal_domains: Vec::new(),
        rules: ChannelRules {
            events: vec![MessageEvent::Question],
            projects: Vec::new(),
            delay_secs: 0,
            remind_secs: Vec::new(),
            digest_minute: 0,
        },
    };
    Email::each("mail", &settings, Some("https://skep.example")).expect("channels")
}

fn message(title: &str) -> Message {
    let run = RunId::try_from("01a22b12bad072bc85badba2c0d37ab0".to_owned()).expect("an id");
    Message {
        key: format!("{run}.b1.question.1"),
        event: MessageEvent::Question,
        run: Some(run),
        block: Some(1),
        project: "tool".to_owned(),
        title: title.to_owned(),
        summary: "A person must approve the change.".to_owned(),
        needs: vec!["Look at https://evil.example/?token=1 and say yes.".to_owned()],
        cost_micros: 1_230_000,
        path: "/q/1/1".to_owned(),
        at: Timestamp(0),
    }
}

/// Reads a mail with the e-mail package of Python: its headers, and the text of each part.
fn parsed(mail: &str) -> serde_json::Value {
    let program = "import sys, json, email, email.policy\n\
        mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)\n\
        parts = {p.get_content_type(): p.get_content() for p in mail.walk() if not p.is_multipart()}\n\
        print(json.dumps({'headers': {k.lower(): str(v) for k, v in mail.items()}, 'names': mail.keys(), 'parts': parts,\n\
        'defects': [str(d) for p in mail.walk() for d in p.defects]}))";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    std::io::Write::write_all(&mut python.stdin.take().expect("stdin"), mail.as_bytes()).expect("read");
    let output = python.wait_with_output().expect("an end");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_says_the_same_in_text_and_html_and_belongs_to_its_run() {
    let sink = MailSink::start().await;
    let [channel] = &channels(sink.port, Protection::None, &["Ann Ö <ann@example.org>"])[..] else {
        panic!("one channel")
    };
    assert_eq!(channel.name(), "mail:ann@example.org");
    let hostile = "Fix ünïcode\r\nBcc: everyone@evil.example\r\n\r\n<script>alert(1)</script> https://evil.example";
    for _ in 0..2 {
        channel.send(&message(hostile)).await.expect("accepted");
    }
    let received = sink.received();
    assert_eq!(received.mails.len(), 2);
    let recipients: Vec<&String> = received.commands.iter().filter(|line| line.starts_with("RCPT")).collect();
    assert_eq!(recipients, ["RCPT TO:<ann@example.org>"; 2]);
    let mail = parsed(&received.mails[0]);
    let headers = &mail["headers"];
    assert_eq!(mail["defects"], serde_json::json!([]), "{mail}");
    assert!(headers.get("bcc").is_none(), "{mail}");
    assert_eq!(headers["to"], "Ann Ö <ann@example.org>");
    assert_eq!(headers["from"], "Skep <skep@factory.example>");
    assert_eq!(headers["auto-submitted"], "auto-generated");
    let run = "01a22b12bad072bc85badba2c0d37ab0";
    assert_eq!(headers["message-id"], format!("<{run}.b1.question.1@factory.example>"));
    assert_eq!(headers["references"], format!("<{run}.thread@factory.example>"));
    assert_eq!(parsed(&received.mails[1])["headers"]["message-id"], headers["message-id"], "the same at every try");
    let subject = headers["subject"].as_str().unwrap();
    assert!(subject.starts_with("A run waits for you: tool, run c0d37ab0: Fix ünïcode Bcc: everyone@"), "{subject}");
    let (text, html) = (mail["parts"]["text/plain"].as_str().unwrap(), mail["parts"]["text/html"].as_str().unwrap());
    for body in [text, html] {
        assert!(body.contains("A person must approve the change.") && body.contains("Cost so far: $1.23"), "{body}");
        assert!(body.contains("https://skep.example/q/1/1"), "{body}");
        assert!(!body.contains("https://evil") && !body.contains("<script"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_recipient_delays_no_other() {
    let sink = MailSink::start().await;
    let all =
        channels(sink.port, Protection::None, &["ann@example.org", "Ann <ann@example.org>", "refused@example.org"]);
    assert_eq!(all.iter().map(Channel::name).collect::<Vec<_>>(), ["mail:ann@example.org", "mail:refused@example.org"]);
    all[0].send(&message("One")).await.expect("accepted");
    let error = all[1].send(&message("One")).await.unwrap_err();
    assert_eq!(error.what, "the mail server answered 550: 5.1.1 nobody [31mhere");
    assert!(!error.is_final);
    assert_eq!(sink.received().mails.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_without_the_protection_that_is_configured() {
    let sink = MailSink::start().await;
    for (protection, why) in [(Protection::StartTls, "STARTTLS"), (Protection::Tls, "no protected connection")] {
        let error = channels(sink.port, protection, &["ann@example.org"])[0].send(&message("One")).await.unwrap_err();
        assert!(error.what.contains(why), "{}", error.what);
    }
    let received = sink.received();
    assert!(received.mails.is_empty());
    assert!(!received.commands.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")), "{received:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_named_as_that() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = channels(free, Protection::None, &["ann@example.org"])[0].send(&message("One")).await.unwrap_err();
    assert!(error.what.starts_with("cannot talk to the mail server: "), "{}", error.what);
}
