//! Lines to be sent, read on a thread of their own: a terminal may take its time, and nothing else waits for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::cli::remote::RemoteError;

/// Lines are handed over when they come to this much, or when the next one has to be waited for.
const CHUNK_BYTES: usize = 64 << 10;
/// So many chunks wait at most.
const CHUNKS_MAX: usize = 8;

/// Lines that were read together.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Where each line ends, its line feed left out.
    spans: Vec<(usize, usize)>,
}

impl Chunk {
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|&(begin, end)| &self.bytes[begin..end])
    }

    /// Line feeds among them.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Where lines come from.
pub struct Input {
    chunks: mpsc::Receiver<Result<Chunk, RemoteError>>,
    is_stopped: Arc<AtomicBool>,
    /// `None` where nobody knows how much there is.
    pub total_bytes: Option<u64>,
    pub is_terminal: bool,
}

impl Input {
    /// Begins to read the file, or standard input. A line above `line_bytes_max` is an error and ends the input.
    pub fn open(path: Option<&Path>, line_bytes_max: usize) -> Result<Input, RemoteError> {
        let stdin = io::stdin();
        let is_terminal = path.is_none() && stdin.is_terminal();
        let mut total_bytes = None;
        let source: Box<dyn Read + Send> = match path {
            None => Box::new(stdin),
            Some(path) => {
                let failed = |source| RemoteError::Input { path: Some(path.to_owned()), source };
                let file = File::open(path).map_err(failed)?;
                let metadata = file.metadata().map_err(failed)?;
                total_bytes = metadata.is_file().then_some(metadata.len());
                Box::new(file)
            }
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let is_stopped = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            source: BufReader::with_capacity(CHUNK_BYTES, source),
            path: path.map(Path::to_owned),
            line: 0,
            line_bytes_max,
            is_stopped: is_stopped.clone(),
        };
        tokio::task::spawn_blocking(move || reader.run(&sender));
        Ok(Input { chunks, is_stopped, total_bytes, is_terminal })
    }

    /// The next lines; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Chunk, RemoteError>> {
        self.chunks.recv().await
    }

    /// Nothing more is read. What was read already still comes.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

struct Reader<R> {
    source: BufReader<R>,
    path: Option<PathBuf>,
    line: u64,
    line_bytes_max: usize,
    is_stopped: Arc<AtomicBool>,
}

impl<R: Read> Reader<R> {
    fn run(mut self, chunks: &mpsc::Sender<Result<Chunk, RemoteError>>) {
        loop {
            let mut chunk = Chunk::default();
            let result = self.fill(&mut chunk);
            // What was read before an error is as good as if there were none.
            if !chunk.spans.is_empty() && chunks.blocking_send(Ok(chunk)).is_err() {
                return;
            }
            match result {
                Ok(true) => {}
                Ok(false) => return,
                // Whoever has gone does not want to know.
                Err(error) => return drop(chunks.blocking_send(Err(error))),
            }
        }
    }

    /// False at the end.
    fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, RemoteError> {
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let begin = chunk.bytes.len();
            // One byte more than a line may have, and its line feed.
            let most = self.line_bytes_max as u64 + 1;
            let taken = self.source.by_ref().take(most).read_until(b'\n', &mut chunk.bytes);
            let taken = taken.map_err(|source| RemoteError::Input { path: self.path.clone(), source })?;
            if taken == 0 {
                return Ok(false);
            }
            self.line += 1;
            let has_feed = chunk.bytes.ends_with(b"\n");
            let end = chunk.bytes.len() - usize::from(has_feed);
            if end - begin > self.line_bytes_max {
                chunk.bytes.truncate(begin);
                return Err(RemoteError::LineTooLong { line: self.line, limit_bytes: self.line_bytes_max });
            }
            chunk.spans.push((begin, end));
            // Half a line may take its time; the whole ones before it need not.
            if chunk.bytes.len() >= CHUNK_BYTES || !self.source.buffer().contains(&b'\n') {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader<R: Read>(source: R, line_bytes_max: usize) -> Reader<R> {
        let source = BufReader::new(source);
        Reader { source, path: None, line: 0, line_bytes_max, is_stopped: Arc::default() }
    }

    fn read(text: &[u8], line_bytes_max: usize) -> (Vec<Vec<u8>>, Option<RemoteError>) {
        let (sender, mut receiver) = mpsc::channel(100);
        reader(text, line_bytes_max).run(&sender);
        drop(sender);
        let (mut lines, mut failure) = (Vec::new(), None);
        while let Ok(next) = receiver.try_recv() {
            match next {
                Ok(chunk) => lines.extend(chunk.lines().map(<[u8]>::to_vec)),
                Err(error) => failure = Some(error),
            }
        }
        (lines, failure)
    }

    #[test]
    fn a_record_is_a_line() {
        let check = |text: &[u8], expected: &[&[u8]]| {
            let (lines, failure) = read(text, 100);
            assert_eq!(lines, expected, "{text:?}");
            assert!(failure.is_none());
        };
        check(b"", &[]);
        check(b"a\nb\n", &[b"a", b"b"]);
        check(b"a\n\nb", &[b"a", b"", b"b"]);
        check(b"\xff\0\r\n", &[b"\xff\0\r"]);
    }

    #[test]
    fn whole_lines_do_not_wait_for_the_end_of_the_next() {
        /// What a terminal or a pipe has now; asked for more, it would wait.
        struct Slow(Option<&'static [u8]>);
        impl Read for Slow {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                let text = self.0.take().expect("nobody waits for the rest");
                into[..text.len()].copy_from_slice(text);
                Ok(text.len())
            }
        }
        let mut chunk = Chunk::default();
        assert!(reader(Slow(Some(b"a\nb\nhalf")), 100).fill(&mut chunk).unwrap());
        assert_eq!(chunk.lines().collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn a_line_that_is_too_long_ends_the_input_behind_the_lines_before_it() {
        let (lines, failure) = read(b"1234\n12345\n1\n", 4);
        assert_eq!(lines, [b"1234"]);
        assert!(matches!(failure, Some(RemoteError::LineTooLong { line: 2, limit_bytes: 4 })));
    }
}
