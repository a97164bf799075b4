//! One thread, many processes, virtual time. Of the tasks that are ready the seed picks the next, whatever order they
//! were woken in; time moves when none is ready, and now and then a little sooner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use larder_core::{BoxFuture, CoarseClock, Moment, Runtime};
use parking_lot::Mutex;

use crate::chance::Chance;

/// One life of a node, the servers, or whatever else tasks belong to.
pub(crate) type Process = u64;

/// Nanoseconds since the run began, as nobody inside it sees them.
pub(crate) type Time = u64;

/// How far the coarse clock may be behind.
const TICK: Time = 5_000_000;
/// In one of so many steps time moves although tasks are ready: a machine takes its time, too.
const HURRY: u64 = 24;
/// How far it moves then, at the most.
const HURRIED: Time = 2_000_000;

type TaskId = usize;

#[derive(Debug)]
struct Task {
    process: Process,
    /// Taken out while it is polled.
    future: Option<Opaque>,
    waker: Arc<TaskWaker>,
}

struct Opaque(BoxFuture<'static, ()>);

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a task")
    }
}

#[derive(Debug)]
struct TaskWaker {
    id: TaskId,
    woken: AtomicBool,
    all: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.all.lock().push(self.id);
        }
    }
}

/// Who is to be woken by a timer. Empty: nobody any more.
type Sleeper = Arc<Mutex<Option<Waker>>>;

/// What is ready, what waits, and for what.
#[derive(Debug)]
pub(crate) struct Executor {
    state: Mutex<State>,
    woken: Arc<Mutex<Vec<TaskId>>>,
    now: AtomicU64,
}

#[derive(Debug)]
struct State {
    tasks: Vec<Option<Task>>,
    ready: Vec<TaskId>,
    /// Ready, in processes that are stopped.
    parked: BTreeMap<Process, Vec<TaskId>>,
    dead: BTreeSet<Process>,
    timers: BinaryHeap<Reverse<(Time, u64)>>,
    sleepers: BTreeMap<u64, Sleeper>,
    timers_made: u64,
    clocks: Vec<(Process, Time, CoarseClock)>,
    /// What is done whenever a task of a process has run.
    after: BTreeMap<Process, After>,
    chance: Chance,
    hash: u64,
}

/// Something done again and again.
#[derive(Clone)]
struct After(Arc<dyn Fn() + Send + Sync>);

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something")
    }
}

impl Executor {
    pub(crate) fn new(chance: Chance) -> Arc<Self> {
        let state = State {
            tasks: Vec::new(),
            ready: Vec::new(),
            parked: BTreeMap::new(),
            dead: BTreeSet::new(),
            timers: BinaryHeap::new(),
            sleepers: BTreeMap::new(),
            timers_made: 0,
            clocks: Vec::new(),
            after: BTreeMap::new(),
            chance,
            hash: 0xcbf2_9ce4_8422_2325,
        };
        Arc::new(Executor { state: Mutex::new(state), woken: Arc::default(), now: AtomicU64::new(0) })
    }

    pub(crate) fn now(&self) -> Time {
        self.now.load(Ordering::Relaxed)
    }

    /// Adds to what tells one run from another.
    pub(crate) fn note(&self, number: u64) {
        self.state.lock().note(number);
    }

    /// What everything that happened so far amounts to.
    pub(crate) fn hash(&self) -> u64 {
        self.state.lock().hash
    }

    pub(crate) fn spawn(&self, process: Process, future: BoxFuture<'static, ()>) {
        let mut state = self.state.lock();
        if state.dead.contains(&process) {
            drop(state);
            // Outside the lock: what it holds may spawn in turn.
            drop(future);
            return;
        }
        let id = state.tasks.len();
        let waker = Arc::new(TaskWaker { id, woken: AtomicBool::new(true), all: self.woken.clone() });
        state.tasks.push(Some(Task { process, future: Some(Opaque(future)), waker }));
        self.woken.lock().push(id);
    }

    /// The process ends: its tasks are dropped where they stand.
    pub(crate) fn kill(&self, process: Process) {
        let mut state = self.state.lock();
        state.dead.insert(process);
        state.parked.remove(&process);
        state.after.remove(&process);
        state.clocks.retain(|(of, _, _)| *of != process);
        let of = state.tasks.iter_mut().filter(|task| task.as_ref().is_some_and(|t| t.process == process));
        let tasks: Vec<_> = of.map(Option::take).collect();
        drop(state);
        drop(tasks);
    }

    /// The process stands still; its clocks do not.
    pub(crate) fn pause(&self, process: Process) {
        self.state.lock().parked.entry(process).or_default();
    }

    pub(crate) fn resume(&self, process: Process) {
        let mut state = self.state.lock();
        let tasks = state.parked.remove(&process).unwrap_or_default();
        state.ready.extend(tasks);
        let now = self.now();
        self.set_time(&mut state, now);
    }

    /// Polls a task, or moves time on to the next timer if that is not beyond `until`. False: nothing is left to do
    /// until then.
    pub(crate) fn step(&self, until: Time) -> bool {
        let picked = {
            let mut state = self.state.lock();
            self.gather(&mut state);
            let hurry = !state.ready.is_empty() && state.chance.below(HURRY) == 0;
            let horizon = if hurry { until.min(self.now() + HURRIED) } else { until };
            if (hurry || state.ready.is_empty()) && self.to_next_timer(&mut state, horizon) {
                self.gather(&mut state);
            }
            match state.pick() {
                Some(picked) => picked,
                None => return state.next_timer().is_some_and(|at| at <= until),
            }
        };
        self.poll(picked);
        true
    }

    /// Runs everything that happens before `until`, and moves time there.
    pub(crate) fn run_until(&self, until: Time) {
        while self.step(until) {}
        let mut state = self.state.lock();
        self.set_time(&mut state, until);
    }

    fn poll(&self, (id, future, waker): (TaskId, Opaque, Arc<TaskWaker>)) {
        waker.woken.store(false, Ordering::Release);
        let mut future = future;
        let waker = Waker::from(waker);
        let done = future.0.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.state.lock();
        let of = state.tasks[id].as_ref().map(|task| task.process);
        let after = of.and_then(|process| state.after.get(&process).cloned());
        match state.tasks[id].as_mut() {
            Some(task) if !done => {
                task.future = Some(future);
                drop(state);
            }
            _ => {
                let task = state.tasks[id].take();
                drop(state);
                drop((task, future));
            }
        }
        if let Some(After(after)) = after {
            after();
        }
    }

    /// Does something whenever a task of the process has run.
    pub(crate) fn after_each(&self, process: Process, what: impl Fn() + Send + Sync + 'static) {
        self.state.lock().after.insert(process, After(Arc::new(what)));
    }

    fn gather(&self, state: &mut State) {
        let mut woken = std::mem::take(&mut *self.woken.lock());
        // The order of waking is not always the same from run to run; that of numbers is.
        woken.sort_unstable();
        for id in woken {
            let Some(task) = &state.tasks[id] else { continue };
            match state.parked.get_mut(&task.process) {
                Some(parked) => parked.push(id),
                None => state.ready.push(id),
            }
        }
    }

    fn set_time(&self, state: &mut State, now: Time) {
        self.now.store(now.max(self.now()), Ordering::Relaxed);
        for (process, ahead, clock) in &state.clocks {
            if !state.parked.contains_key(process) {
                clock.set(moment(now / TICK * TICK + ahead));
            }
        }
    }

    /// Moves time to the next timer, and wakes who waits for that moment.
    fn to_next_timer(&self, state: &mut State, horizon: Time) -> bool {
        let Some(at) = state.next_timer().filter(|at| *at <= horizon) else { return false };
        self.set_time(state, at);
        while let Some(Reverse((due, number))) = state.timers.peek().copied() {
            if due > at {
                break;
            }
            state.timers.pop();
            let sleeper = state.sleepers.remove(&number);
            if let Some(waker) = sleeper.and_then(|sleeper| sleeper.lock().take()) {
                waker.wake();
            }
        }
        true
    }

    fn sleep(&self, until: Time, waker: Waker) -> Sleeper {
        let sleeper: Sleeper = Arc::new(Mutex::new(Some(waker)));
        let mut state = self.state.lock();
        state.timers_made += 1;
        let number = state.timers_made;
        state.timers.push(Reverse((until, number)));
        state.sleepers.insert(number, sleeper.clone());
        sleeper
    }

    /// Ends the run: everything is dropped, so that nothing holds on to this.
    pub(crate) fn end(&self) {
        loop {
            let tasks = std::mem::take(&mut self.state.lock().tasks);
            if tasks.is_empty() {
                break;
            }
            let processes: Vec<_> = tasks.iter().flatten().map(|task| task.process).collect();
            self.state.lock().dead.extend(processes);
            drop(tasks);
        }
        let sleepers = std::mem::take(&mut self.state.lock().sleepers);
        drop(sleepers);
    }
}

impl State {
    fn note(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn next_timer(&mut self) -> Option<Time> {
        while let Some(Reverse((at, number))) = self.timers.peek().copied() {
            // Of most timers nobody waits for the end.
            let waits = self.sleepers.get(&number).is_some_and(|sleeper| sleeper.lock().is_some());
            if waits {
                return Some(at);
            }
            self.timers.pop();
            self.sleepers.remove(&number);
        }
        None
    }

    fn pick(&mut self) -> Option<(TaskId, Opaque, Arc<TaskWaker>)> {
        while !self.ready.is_empty() {
            let at = self.chance.index(self.ready.len());
            let id = self.ready.swap_remove(at);
            let Some(task) = &mut self.tasks[id] else { continue };
            if let Some(parked) = self.parked.get_mut(&task.process) {
                parked.push(id);
                continue;
            }
            let Some(future) = task.future.take() else { continue };
            let waker = task.waker.clone();
            self.note(id as u64);
            return Some((id, future, waker));
        }
        None
    }
}

fn moment(at: Time) -> Moment {
    Moment::ORIGIN.plus(Duration::from_nanos(at))
}

/// The port to time, tasks and chance, as one process has it.
#[derive(Debug)]
pub(crate) struct Machine {
    executor: Arc<Executor>,
    process: Process,
    /// Its monotonic clock less that of the run.
    ahead: Time,
    calendar_ms: AtomicI64,
    clock: CoarseClock,
    chance: Mutex<Chance>,
}

impl Machine {
    pub(crate) fn new(
        executor: &Arc<Executor>,
        process: Process,
        ahead: Duration,
        chance: Chance,
    ) -> Arc<Self> {
        let ahead = Time::try_from(ahead.as_nanos()).unwrap_or(0);
        let clock = CoarseClock::at(moment(executor.now() + ahead));
        executor.state.lock().clocks.push((process, ahead, clock.clone()));
        Arc::new(Machine {
            executor: executor.clone(),
            process,
            ahead,
            calendar_ms: AtomicI64::new(1_700_000_000_000),
            clock,
            chance: Mutex::new(chance),
        })
    }

    pub(crate) fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Steps the calendar.
    pub(crate) fn step_calendar(&self, ms: i64) {
        self.calendar_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            self.sleep(time).await;
        }
    }
}

impl Runtime for Machine {
    fn now(&self) -> Moment {
        moment(self.executor.now() + self.ahead)
    }

    fn coarse_clock(&self) -> CoarseClock {
        self.clock.clone()
    }

    fn wall_millis(&self) -> u64 {
        let ms = i64::try_from(self.executor.now() / 1_000_000).unwrap_or(i64::MAX);
        u64::try_from(self.calendar_ms.load(Ordering::Relaxed).saturating_add(ms)).unwrap_or(0)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let nanos = Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX);
        let until = self.executor.now().saturating_add(nanos);
        Box::pin(Sleep { executor: self.executor.clone(), until, sleeper: None })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.executor.spawn(self.process, task);
    }

    fn random(&self) -> u64 {
        self.chance.lock().next()
    }
}

struct Sleep {
    executor: Arc<Executor>,
    until: Time,
    sleeper: Option<Sleeper>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.until {
            return Poll::Ready(());
        }
        match &self.sleeper {
            Some(sleeper) => *sleeper.lock() = Some(cx.waker().clone()),
            None => self.sleeper = Some(self.executor.sleep(self.until, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(sleeper) = &self.sleeper {
            sleeper.lock().take();
        }
    }
}
