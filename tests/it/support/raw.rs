//! A client that says exactly what it is told, byte by byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for anything that is expected to happen at once.
const SOON: Duration = Duration::from_secs(10);

pub struct Raw {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// One HTTP/1.1 answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }

    /// The `code` of an OpenAI error body.
    pub fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Raw {
    pub async fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.trim_start_matches("http://")).await.expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, unread: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("written");
    }

    /// A whole `POST` to the chat endpoint.
    pub async fn chat(&mut self, body: &serde_json::Value) {
        let body = body.to_string();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(head + &body).await;
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        self.answer().await
    }

    /// The next answer, which must have a `content-length`.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// The next answer; `None` if the connection ends before.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let reading = async {
            loop {
                if let Some(answer) = self.parsed() {
                    return Some(answer);
                }
                match self.stream.read_buf(&mut self.unread).await {
                    Ok(count) if count > 0 => {}
                    _ => return None,
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("an answer in time")
    }

    fn parsed(&mut self) -> Option<Answer> {
        let end = self.unread.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.unread[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok())?;
        if self.unread.len() < end + 4 + length {
            return None;
        }
        let body = String::from_utf8_lossy(&self.unread[end + 4..end + 4 + length]).into_owned();
        self.unread.drain(..end + 4 + length);
        Some(Answer { status: head[9..12].parse().expect("a status"), head, body })
    }

    /// Everything until the end of the connection, which must come. A reset is told from a clean end.
    pub async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.unread);
        let reading = self.stream.read_to_end(&mut rest);
        tokio::time::timeout(SOON, reading).await.expect("the connection ends in time").map(|_| rest)
    }

    pub async fn is_closed_cleanly(&mut self) -> bool {
        self.rest().await.is_ok_and(|rest| rest.is_empty())
    }
}
