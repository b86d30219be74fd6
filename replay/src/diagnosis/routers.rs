//! Hosts that wait for an IPv6 router.

use psc_formats::manifest::Layer;

use super::case::{Case, counted};
use super::rule::{Find, Found, Rule, Sure};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "no-router",
    layer: Layer::Network,
    severity: "high",
    looks_at: "router solicitations without an advertisement in a namespace that has no IPv6 route for what it sends",
    cause: "no IPv6 router advertises itself on the link",
    silent_on: "links without IPv6 routers on which nobody misses one",
    references: &["RFC 4861 section 6.3.7", "Documentation/networking/ip-sysctl.rst accept_ra"],
    find: Find::Own(no_router),
}];

fn no_router(case: &mut Case<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    let mut without = Vec::new();
    for (device, routers) in case.seen.link.routers() {
        let Some(fact) = case.tables.devices.get(device) else { continue };
        let Some(space) = case.space(fact.netns) else { continue };
        let missed = space.rise("Ip6OutNoRoutes");
        let global = fact
            .addresses
            .iter()
            .any(|address| address.contains(':') && !address.starts_with("fe80"));
        if routers.advertisements > 0 || routers.solicitations.count == 0 || missed == 0 || global {
            continue;
        }
        without.push(fact.netns);
        all.push(Found {
            title: format!("No IPv6 router answers at {}: {} unanswered.", case.place(fact.netns, *device), counted(routers.solicitations.count, "router solicitation")),
            evidence: space.tell(&["Ip6OutNoRoutes"]),
            advice: "Start a router advertisement daemon on the router (radvd), or give the host its address and route by \
                     hand; net.ipv6.conf.*.accept_ra has to be 1 (2 with forwarding)."
                .to_owned(),
            targets: vec![case.place(fact.netns, *device)],
            times: routers.solicitations.clone(),
            sure: Sure::Medium("what was sent may have been for elsewhere".to_owned()),
            ..Found::default()
        });
    }
    for netns in without {
        case.explain_routerless(netns);
    }
    all
}
