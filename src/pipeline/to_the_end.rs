use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// What was at work panicked. Its message is not repeated, since nobody knows what is in it.
#[derive(Debug, thiserror::Error)]
#[error("the call broke off in a panic")]
pub(super) struct BrokenOff;

/// A future that goes to its end whatever becomes of who waits for it.
///
/// It runs where it is awaited: most calls end at the first poll, and a task of its own would cost
/// each of them two ways through the scheduler. Whoever waits may go away (the client hangs up, its
/// time is over); what is left then goes on in a task of its own.
pub(super) struct ToTheEnd<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> ToTheEnd<F> {
    pub(super) fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for ToTheEnd<F> {
    type Output = Result<F::Output, BrokenOff>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.0 else { return Poll::Ready(Err(BrokenOff)) };
        // What a panic leaves is dropped here and never looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                self.0 = None;
                Poll::Ready(Ok(output))
            }
            Err(_) => {
                self.0 = None;
                Poll::Ready(Err(BrokenOff))
            }
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for ToTheEnd<F> {
    fn drop(&mut self) {
        let Some(rest) = self.0.take() else { return };
        // Without a runtime the process is at its end.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn(rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::oneshot,
        time::{sleep, timeout},
    };

    use super::*;

    #[tokio::test]
    async fn what_it_returns_comes_back() {
        assert_eq!(ToTheEnd::new(async { 7 }).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_when_nobody_waits() {
        let (told, mut ended) = oneshot::channel();
        let work = ToTheEnd::new(async move {
            sleep(Duration::from_secs(2)).await;
            told.send("done").unwrap();
        });
        assert!(timeout(Duration::from_secs(1), work).await.is_err());
        assert!(ended.try_recv().is_err());
        assert_eq!(ended.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn it_runs_even_if_it_was_never_waited_for() {
        let (told, ended) = oneshot::channel();
        drop(ToTheEnd::new(async move { told.send("done").unwrap() }));
        assert_eq!(ended.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_run_again() {
        let broken = ToTheEnd::new(async { panic!("on purpose") });
        let BrokenOff = broken.await.unwrap_err();
    }

    #[test]
    fn outside_a_runtime_it_is_dropped() {
        drop(ToTheEnd::new(async { 7 }));
    }
}
