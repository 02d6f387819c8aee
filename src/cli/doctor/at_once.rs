//! Questions to several clusters at the same time: one that does not answer costs its own time and not the others' too.

use std::thread;

use portcullis_connector_api::{ConnectorError, ErrorKind};

/// The answers, in the order of the questions. A question bounds its own time.
pub(super) fn ask_all<'a, Q: Sync, A: Send>(
    questions: &'a [Q],
    ask: impl Fn(&'a Q) -> Result<A, ConnectorError> + Copy + Send,
) -> Vec<Result<A, ConnectorError>> {
    thread::scope(|scope| {
        let begin = |question: &'a Q| {
            thread::Builder::new().name("doctor".to_owned()).spawn_scoped(scope, move || ask(question))
        };
        let asked: Vec<_> = questions.iter().map(begin).collect();
        let answer = |asked: std::io::Result<thread::ScopedJoinHandle<'_, _>>| match asked.map(|asked| asked.join()) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ConnectorError::new(ErrorKind::Fatal, "the question panicked")),
            Err(error) => Err(ConnectorError::new(ErrorKind::Fatal, format!("no thread for the question: {error}"))),
        };
        asked.into_iter().map(answer).collect()
    })
}
