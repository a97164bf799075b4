//! What a node believes of its cluster (`CLUSTER NODES`), and whether two believe the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// A cluster as one node sees it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) members: Vec<Member>,
}

/// A node as a node sees it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: String,
    pub(super) port: u16,
    primary: bool,
    /// Suspected or believed dead, or not yet met.
    pub(super) doubtful: bool,
    /// Whether the two are connected.
    linked: bool,
    /// The primary it follows, by its id.
    follows: Option<String>,
    /// Of two that claim a slot, the one of the higher epoch has it.
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
}

/// What nodes must agree on about another: whether it is a primary, the port of the one it follows, and its slots.
type Part = (bool, Option<u16>, Vec<RangeInclusive<u16>>);

impl View {
    /// Reads the reply of `CLUSTER NODES`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let members = text.lines().map(|line| member(line).ok_or_else(|| format!("not a node: {line:?}")));
        Ok(Self { members: members.collect::<Result<_, _>>()? })
    }

    /// The owner of `slot`.
    pub(super) fn owner(&self, slot: u16) -> Option<&Member> {
        self.members.iter().find(|member| member.slots.iter().any(|slots| slots.contains(&slot)))
    }

    /// The owner of `slot` by the newest of what several nodes believe.
    pub(super) fn newest_owner(views: &[Self], slot: u16) -> Option<&Member> {
        views.iter().filter_map(|view| view.owner(slot)).max_by_key(|owner| owner.epoch)
    }

    /// All that are the [newest owner](Self::newest_owner) of a slot, each once, in the order of their first slots.
    pub(super) fn newest_owners(views: &[Self]) -> Vec<&Member> {
        // Where no view has a range begin, the owner is that of the slot before.
        let begins: BTreeSet<_> = views
            .iter()
            .flat_map(Self::owners)
            .flat_map(|owner| &owner.slots)
            .map(|slots| *slots.start())
            .collect();
        let mut owners: Vec<&Member> = Vec::new();
        for owner in begins.into_iter().filter_map(|slot| Self::newest_owner(views, slot)) {
            if owners.iter().all(|known| known.port != owner.port) {
                owners.push(owner);
            }
        }
        owners
    }

    /// The member that the one on `port` follows.
    pub(super) fn followed_by(&self, port: u16) -> Option<&Member> {
        let id = self.members.iter().find(|member| member.port == port)?.follows.as_ref()?;
        self.members.iter().find(|member| member.id == *id)
    }

    /// Those that own a slot.
    fn owners(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.slots.is_empty())
    }

    /// Those that follow the member `id`.
    pub(super) fn replicas(&self, id: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.follows.as_deref() == Some(id))
    }

    /// What keeps this view from being that of a whole cluster of `size` nodes, of which those on the ports `running`
    /// are there.
    pub(super) fn missing(&self, size: usize, running: &[u16]) -> Option<String> {
        let met = self.members.len();
        let owned: usize = self.owners().flat_map(|member| &member.slots).map(ExactSizeIterator::len).sum();
        let doubtful = self
            .members
            .iter()
            .find(|member| running.contains(&member.port) && (member.doubtful || !member.linked));
        if met != size {
            Some(format!("it knows {met} nodes of {size}"))
        } else if owned != usize::from(SLOTS) {
            Some(format!("it knows the owners of {owned} slots"))
        } else {
            doubtful.map(|member| format!("it has no contact with {}", member.port))
        }
    }

    /// What two views must have in common: all about the nodes on the ports `running`, and about owners of slots.
    pub(super) fn shape(&self, running: &[u16]) -> BTreeMap<u16, Part> {
        let port =
            |id: &String| self.members.iter().find(|member| member.id == *id).map(|member| member.port);
        self.members
            .iter()
            .filter(|member| running.contains(&member.port) || !member.slots.is_empty())
            .map(|member| {
                let follows = member.follows.as_ref().and_then(port);
                (member.port, (member.primary, follows, member.slots.clone()))
            })
            .collect()
    }
}

/// `<id> <ip>:<port>@<bus port>[,..] <flags> <primary> <ping> <pong> <epoch> <link> <slot> ..`
fn member(line: &str) -> Option<Member> {
    let mut words = line.split_ascii_whitespace();
    let id = words.next()?.to_owned();
    let (addr, _) = words.next()?.split_once('@')?;
    let port = addr.rsplit_once(':')?.1.parse().ok()?;
    let flags: Vec<_> = words.next()?.split(',').collect();
    let follows = words.next().filter(|id| *id != "-").map(str::to_owned);
    let epoch = words.nth(2)?.parse().ok()?;
    let linked = words.next()? == "connected";
    // A slot in brackets is on its way, and still where it was.
    let slots = words.filter(|slots| !slots.starts_with('[')).map(range).collect::<Option<_>>()?;
    let has = |flag| flags.contains(&flag);
    Some(Member {
        id,
        port,
        primary: has("master"),
        doubtful: ["fail", "fail?", "handshake", "noaddr"].into_iter().any(has),
        linked,
        follows,
        epoch,
        slots,
    })
}

fn range(slots: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
a1 127.0.0.1:7001@17001 myself,master - 0 0 4 connected 0-5460 5462 [5463->-b2] [7-<-b2]
b2 127.0.0.1:7002@17002,name,shard-id=x master - 1 2 2 connected 5461 5463-16383
c3 127.0.0.1:7003@17003 slave a1 1 2 4 connected
d4 :0@0 slave,fail?,noaddr b2 1 2 2 disconnected
";

    #[test]
    fn a_view_tells_owners_replicas_and_doubts() {
        let view = View::parse(NODES).unwrap();
        let owner = |slot| view.owner(slot).unwrap().port;
        assert_eq!(
            [owner(0), owner(5461), owner(5462), owner(5463), owner(SLOTS - 1)],
            [7001, 7002, 7001, 7002, 7002]
        );
        assert_eq!(view.owner(0).unwrap().epoch, 4);
        assert_eq!(view.followed_by(7003).unwrap().id, "a1");
        assert!(view.followed_by(7001).is_none());
        assert_eq!(view.replicas("a1").map(|member| member.port).collect::<Vec<_>>(), [7003]);
        assert_eq!(view.missing(4, &[7001, 7002, 7003]), None);
        assert_eq!(view.missing(4, &[0]).unwrap(), "it has no contact with 0");
        assert!(view.missing(5, &[7001]).is_some());
    }

    /// The node on 7003 has taken over from 7001, which has not heard of it.
    #[test]
    fn of_two_views_the_newer_owner_is_believed() {
        let newer = NODES
            .replace(" 4 connected 0-5460 5462 [5463->-b2] [7-<-b2]", " 4 connected")
            .replace("slave a1 1 2 4 connected", "master - 1 2 5 connected 0-5460 5462");
        let views = [View::parse(&newer).unwrap(), View::parse(NODES).unwrap()];
        assert_eq!(View::newest_owner(&views, 9).unwrap().port, 7003);
        let ports: Vec<_> = View::newest_owners(&views).iter().map(|owner| owner.port).collect();
        assert_eq!(ports, [7003, 7002]);
    }

    #[test]
    fn views_agree_only_if_they_agree_on_roles_and_slots_of_those_that_run() {
        let view = View::parse(NODES).unwrap();
        let differs = |from: &str, to: &str, running: &[u16]| {
            view.shape(running) != View::parse(&NODES.replace(from, to)).unwrap().shape(running)
        };
        assert!(differs("0-5460 5462", "0-5460", &[7003]));
        assert!(differs("slave a1", "slave b2", &[7003]));
        assert!(!differs("slave a1", "slave b2", &[7001]), "nobody minds where a dead one belongs");
        assert!(!differs("a1 127", "a1 127", &[7001]));
    }

    #[test]
    fn what_is_not_a_view_is_an_error() {
        for text in
            ["x", "a1 127.0.0.1:7001@1 master - 0 0", "a1 127.0.0.1:7001@1 master - 0 0 1 connected 1-x"]
        {
            assert!(View::parse(text).is_err(), "{text}");
        }
    }
}
