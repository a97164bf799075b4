//! What the simulated servers are asked, one command at a time.

use super::*;

impl TestRedis {
    /// Runs a command on a server; `None` if that server is gone.
    fn on<T>(&self, server: u64, work: impl FnOnce(&mut Server, Moment) -> T) -> Option<T> {
        let mut servers = self.servers.lock();
        Some(work(servers.all.get_mut(&server)?, self.runtime.now()))
    }

    /// As [`on`](Self::on), for a command that tells of the log: whoever hears it from a server that had been deposed is
    /// misled.
    fn tells<T>(&self, at: At, work: impl FnOnce(&mut Server, Moment, bool) -> T) -> Option<T> {
        let mut servers = self.servers.lock();
        let now = self.runtime.now();
        let primary = servers.primary == at.server;
        let told = work(servers.all.get_mut(&at.server)?, now, primary);
        if !primary {
            servers.misled.insert(at.connection, now);
        }
        Some(told)
    }

    pub(in super::super) fn get(&self, at: At, key: &[u8], from_replica: bool) -> Option<Got> {
        self.servers.lock().gets += 1;
        let lag = self.options.replica.unwrap_or_default();
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            let data = match server.replica.as_mut().filter(|_| from_replica) {
                Some(replica) => {
                    replica.catch_up(now.minus(lag));
                    &replica.data
                }
                None => &server.data,
            };
            match data.values.get(key).filter(|value| now_us < value.until_us) {
                Some(value) if value.is_other => Err(RemoteError::wrong_type("it is no string")),
                there => Ok(there.map(|value| value.bytes.clone())),
            }
        })
    }

    pub(in super::super) fn store(&self, at: At, key: &[u8], store: Store) -> Option<Stored> {
        self.on(at.server, |server, now| {
            let (now_us, epoch) = (server.clock_us(now), store.epoch);
            let there = server.data.values.get(key).filter(|there| now_us < there.until_us);
            let over = there.and_then(|there| epoch_of(&there.bytes));
            let replaced = there.filter(|_| store.measured).map(|there| {
                let left = Duration::from_micros(there.until_us - now_us);
                Stored::Replaced { bytes: there.bytes.len() as u64, left }
            });
            let lease = server.data.lease(key, now_us);
            let stored = may_store(store.lease, epoch, lease, over);
            let ends = match store.lease {
                StoreLease::Apart | StoreLease::Yields => None,
                StoreLease::Ends(token) => lease.filter(|lease| lease.token == token),
                StoreLease::Breaks => lease.filter(|_| stored),
            };
            let (ended, held) = (ends.cloned(), lease.map(|lease| lease.token));
            let mut effects = Vec::new();
            if stored {
                let until_us = now_us.saturating_add(micros(store.life));
                let value = Value { bytes: store.bytes, until_us, is_other: false };
                effects.push(Effect::Set { key: key.to_vec(), value });
            }
            if ended.is_some() {
                effects.push(Effect::Lease { key: key.to_vec(), lease: None });
            }
            server.commit(effects, now);
            let how = if store.lease == StoreLease::Breaks { LeaseEnd::Broken } else { LeaseEnd::Stored };
            self.end(at, key, ended.as_ref(), how);
            if !stored {
                return Stored::Overtaken;
            }
            let (by, lease) = (at.connection, store.lease);
            self.tell(&Happening::Stored { by, key: key.to_vec(), over, epoch, lease, held });
            replaced.unwrap_or(Stored::Stored)
        })
    }

    pub(in super::super) fn lease(&self, at: At, key: &[u8], request: &LeaseRequest) -> Option<LeaseAnswer> {
        let (by, primary) = (at.connection, at.server == self.primary());
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            if let Some(there) = server.data.get(key, now_us)
                && epoch_of(there).is_some()
                && !request.rejected.as_ref().is_some_and(|rejected| there.starts_with(rejected))
            {
                return LeaseAnswer::Value(there.clone());
            }
            let mut held = server.data.lease(key, now_us).cloned();
            let (key_of, request_of) = (key.to_vec(), request.clone());
            let answer = match &mut held {
                Some(lease) if lease.token != request.token && Some(lease.token) != request.vain => {
                    lease.remember(request.waiter);
                    let left = Duration::from_micros(lease.until_us - now_us);
                    let held = lease.token;
                    let server = at.server;
                    self.tell(&Happening::Refused { by, server, key: key_of, request: request_of, held });
                    LeaseAnswer::Held { token: lease.token, epoch: lease.epoch, left }
                }
                over => {
                    let held = over.as_ref().map(|lease| lease.token);
                    self.tell(&Happening::Leased { by, primary, key: key_of, request: request_of, held });
                    *over = Some(Lease::new(request, now_us, over.as_ref()));
                    LeaseAnswer::Granted
                }
            };
            server.commit(vec![Effect::Lease { key: key.to_vec(), lease: held }], now);
            answer
        })
    }

    pub(in super::super) fn extend(&self, at: At, key: &[u8], token: u64, life: Duration) -> Option<bool> {
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            let Some(mut lease) = server.data.lease(key, now_us).filter(|l| l.token == token).cloned() else {
                return false;
            };
            lease.until_us = now_us + micros(life);
            self.tell(&Happening::Extended { token });
            server.commit(vec![Effect::Lease { key: key.to_vec(), lease: Some(lease) }], now);
            true
        })
    }

    pub(in super::super) fn release(&self, at: At, key: &[u8], token: u64, shared: bool) -> Option<()> {
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            let ended = server.data.lease(key, now_us).filter(|lease| lease.token == token).cloned();
            if ended.is_some() {
                server.commit(vec![Effect::Lease { key: key.to_vec(), lease: None }], now);
            }
            self.end(at, key, ended.as_ref(), LeaseEnd::Released { shared });
        })
    }

    pub(in super::super) fn reserve(
        &self,
        at: At,
        share: &[u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> Option<bool> {
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            server.data.shares.reserve(share, bytes, life, limit, now_us)
        })
    }

    pub(in super::super) fn give_back(&self, at: At, share: &[u8], bytes: u64, left: Duration) -> Option<()> {
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            server.data.shares.give_back(share, bytes, left, now_us);
        })
    }

    /// Whoever calls this with his number is told of the ends of leases that he was refused.
    pub(in super::super) fn subscribe(&self, waiter: u64, ring: Ring) {
        self.rings.lock().insert(waiter, ring);
    }

    pub(in super::super) fn unsubscribe(&self, waiter: u64) {
        self.rings.lock().remove(&waiter);
    }

    /// Tells of the end of a lease, if there was one, and wakes who waited for it.
    fn end(&self, at: At, key: &[u8], ended: Option<&Lease>, how: LeaseEnd) {
        let Some(lease) = ended else { return };
        self.tell(&Happening::Ended { server: at.server, token: lease.token, how });
        let (rings, shared) = (self.rings.lock(), how != LeaseEnd::Released { shared: false });
        for ring in lease.waiters.iter().filter_map(|waiter| rings.get(waiter)) {
            ring(Wake { key: Bytes::copy_from_slice(key), shared });
        }
    }

    pub(in super::super) fn remove(&self, at: At, key: &[u8]) -> Option<()> {
        self.on(at.server, |server, now| server.commit(vec![Effect::Remove { key: key.to_vec() }], now))
    }

    fn call(&self, server: &Server, now: Moment, at: At, from: Option<Epoch>, nonce: u64) -> Call {
        let RedisOptions { stamp_limit: limit, records: kept, .. } = self.options;
        Call { from, nonce, now: server.clock_us(now), server: at.server, limit, kept }
    }

    fn write(&self, server: &mut Server, now: Moment, primary: bool, by: u64, steps: Vec<Step>) {
        for step in &steps {
            if let Step::Record { record, .. } = step {
                self.tell(&Happening::Appended { by, primary, record: record.clone() });
            }
        }
        server.commit(steps.into_iter().map(Effect::Log).collect(), now);
    }

    pub(in super::super) fn open(&self, at: At, from: Option<Epoch>, nonce: u64) -> Option<Opened> {
        let opened = self.tells(at, |server, now, primary| {
            let call = self.call(server, now, at, from, nonce);
            let (steps, head, lineage) = server.data.log.open(&call);
            self.write(server, now, primary, at.connection, steps);
            let (since, server_ms) = (server.data.log.reach(), call.now / 1000);
            Opened { head, lineage, since, server_ms, server_known: true }
        });
        self.appended.notify_waiters();
        opened
    }

    pub(in super::super) fn append(
        &self,
        at: At,
        append: Append,
        from: Option<Epoch>,
        nonce: u64,
    ) -> Option<Epoch> {
        let primary = at.server == self.primary();
        let appended = self.on(at.server, |server, now| {
            let call = self.call(server, now, at, from, nonce);
            let (steps, token) = server.data.log.append(&call, append);
            self.write(server, now, primary, at.connection, steps);
            token
        });
        self.appended.notify_waiters();
        appended
    }

    /// One call of HSCAN.
    pub(in super::super) fn scan(
        &self,
        at: At,
        old: bool,
        after: Option<&Stamp>,
        limit: usize,
    ) -> Option<Option<Vec<Stamp>>> {
        self.tells(at, |server, _, _| server.data.log.scan(old, after, limit))
    }

    pub(in super::super) fn head(&self, at: At) -> Option<Option<Head>> {
        self.tells(at, |server, _, _| server.data.log.head())
    }

    pub(in super::super) fn behind(&self, at: At, position: u64, limit: usize) -> Option<Vec<Record>> {
        self.tells(at, |server, _, _| server.data.log.behind(position, limit))
    }

    pub(in super::super) fn before(
        &self,
        at: At,
        position: Option<u64>,
        limit: usize,
    ) -> Option<Vec<Record>> {
        self.tells(at, |server, _, _| server.data.log.before(position, limit))
    }

    pub(in super::super) fn page(
        &self,
        at: At,
        under: &[Vec<u8>],
        cursor: Cursor,
        limit: usize,
    ) -> Option<Page> {
        self.on(at.server, |server, now| {
            let now_us = server.clock_us(now);
            // By hash, so that the place of a value does not depend on the others.
            let place = |key: &[u8]| xxhash_rust::xxh3::xxh3_64(key) >> 1;
            let all = server.data.values.iter();
            let mut ahead: Vec<_> = all.filter(|(key, _)| place(key) >= cursor.at).collect();
            ahead.sort_unstable_by_key(|(key, _)| place(key));
            let next = ahead.get(limit.max(1)).map(|(key, _)| Cursor { server: 0, at: place(key) });
            ahead.truncate(limit.max(1));
            let wanted = |key: &[u8]| under.iter().any(|under| key.starts_with(under));
            let live = ahead.into_iter().filter(|(key, value)| wanted(key) && now_us < value.until_us);
            let cut = |bytes: &Bytes| bytes.slice(..bytes.len().min(PEEKED));
            let values = live.map(|(key, value)| (key.clone(), cut(&value.bytes))).collect();
            Page { values, next }
        })
    }

    pub(in super::super) fn discard(&self, at: At, values: &[(Vec<u8>, Epoch)]) -> Option<u64> {
        self.on(at.server, |server, now| {
            let data = &server.data;
            let dead = values.iter().filter(|(key, epoch)| {
                data.values.get(key).and_then(|there| epoch_of(&there.bytes)) == Some(*epoch)
            });
            let dead: Vec<_> = dead.map(|(key, _)| Effect::Remove { key: key.clone() }).collect();
            let count = dead.len() as u64;
            server.commit(dead, now);
            count
        })
    }
}
