//! A future beside a busy one, polled only when something of its own woke it. What may end a
//! connection from outside are timers and channels with locks of their own; a connection that
//! turns fifty thousand times a second must not ask each of them at each turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Wakes the task, and leaves word for whom.
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// A future that is polled only when it was woken.
pub(super) struct Aside<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<F> Aside<F> {
    /// Polled a first time, then as it is woken.
    pub(super) fn new(inner: F) -> Aside<F> {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        Aside { inner: Box::pin(inner), waker: bell.clone().into(), bell }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // First this, then the look: a ring between the two is not lost.
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let this = &mut *self;
        this.inner.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_is_polled_when_it_was_woken_and_not_before() {
        let task = Arc::new(Count(AtomicUsize::new(0)));
        let waker: Waker = task.clone().into();
        let mut cx = Context::from_waker(&waker);
        let (polls, inner) = (AtomicUsize::new(0), Mutex::new(None::<Waker>));
        let mut aside = Aside::new(poll_fn(|cx| {
            *inner.lock().unwrap() = Some(cx.waker().clone());
            match polls.fetch_add(1, Ordering::SeqCst) {
                0 => Poll::Pending,
                _ => Poll::Ready("end"),
            }
        }));
        for _ in 0..3 {
            assert!(Pin::new(&mut aside).poll(&mut cx).is_pending());
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        inner.lock().unwrap().take().unwrap().wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1, "the task is woken with it");
        assert_eq!(Pin::new(&mut aside).poll(&mut cx), Poll::Ready("end"));
    }
}
