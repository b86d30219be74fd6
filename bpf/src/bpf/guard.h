/* SPDX-License-Identifier: MIT */
/*
 * The boundary between the guard programs and psc: mirrored in ../guard/wire.rs, where constant
 * assertions compare the two. What the numbers mean is documented with psc_formats::guard, whose
 * tables and arithmetic these programs repeat to the bit.
 */
#ifndef PSC_GUARD_H
#define PSC_GUARD_H

/* Bytes of a packet that are looked at. */
#define PSC_WINDOW 256
#define PSC_MAX_DIMS 24
#define PSC_NONE 0xffffffffU

enum psc_key {
	PSC_FRAME_LEN, PSC_CUT, PSC_MALFORMED, PSC_ETH_SRC, PSC_ETH_DST, PSC_ETH_TYPE,
	PSC_VLAN0, PSC_VLAN1,
	PSC_ARP_OPCODE, PSC_ARP_SENDER_MAC, PSC_ARP_SENDER, PSC_ARP_TARGET_MAC, PSC_ARP_TARGET,
	PSC_ARP_DIFFERS,
	PSC_IP_SRC, PSC_IP_DST, PSC_IP_PROTO, PSC_IP_TTL, PSC_IP_LEN, PSC_IP_HDR_LEN, PSC_IP_ID,
	PSC_IP_TOS, PSC_IP_FRAGMENT, PSC_IP_CHECKSUM,
	PSC_V6_SRC, PSC_V6_DST, PSC_V6_NEXT, PSC_V6_HOP_LIMIT, PSC_V6_PAYLOAD_LEN, PSC_V6_FLOW,
	PSC_V6_TRAFFIC_CLASS,
	PSC_TCP_SRC_PORT, PSC_TCP_DST_PORT, PSC_TCP_SEQ, PSC_TCP_ACK, PSC_TCP_LEN,
	PSC_TCP_HDR_LEN, PSC_TCP_WINDOW, PSC_TCP_CHECKSUM, PSC_TCP_FLAGS, PSC_TCP_MSS,
	PSC_TCP_WINDOW_SCALE,
	PSC_UDP_SRC_PORT, PSC_UDP_DST_PORT, PSC_UDP_LEN, PSC_UDP_CHECKSUM,
	PSC_SCTP_SRC_PORT, PSC_SCTP_DST_PORT,
	PSC_ICMP_TYPE, PSC_ICMP_CODE, PSC_ICMP_IDENT, PSC_ICMP_SEQ,
	PSC_ICMP6_TYPE, PSC_ICMP6_CODE,
	PSC_QUOTED_PROTO, PSC_QUOTED_SRC, PSC_QUOTED_DST, PSC_QUOTED_V6_SRC, PSC_QUOTED_V6_DST,
	PSC_QUOTED_SRC_PORT, PSC_QUOTED_DST_PORT,
	PSC_KEYS,
};

enum psc_action { PSC_PASS, PSC_COUNT, PSC_LOG, PSC_ALERT, PSC_DROP, PSC_LIMIT };
enum psc_per { PSC_ALL, PSC_SOURCE, PSC_DESTINATION, PSC_PAIR, PSC_FLOW };
enum psc_kind { PSC_SMALL, PSC_WORD, PSC_MAC, PSC_WIDE };

/* One key in use: where its values are looked up. */
struct psc_dim {
	__u8 key;
	__u8 kind;
	__u8 steps;
	__u8 pad;
	__u32 table;
	__u32 classes;
	__u32 starts;
	__u32 absent;
};

/* Fixed when a rule set is loaded, so that the verifier removes what it does not need. */
struct psc_guard_config {
	/* Keys that rules and thresholds ask about, one bit each. */
	__u64 used;
	__u32 dims;
	__u32 words;
	__u32 summary;
	__u32 rules;
	/* Entries less one, each a power of two. */
	__u32 small_mask;
	__u32 edges32_mask;
	__u32 edges64_mask;
	__u32 classes_mask;
	__u32 starts_mask;
	__u32 vectors_mask;
	__u32 rows_mask;
	/* Kinds of block that rules make, one bit for each psc_per. */
	__u32 blocking;
	/* Some rule has a rate, a threshold or a block. */
	__u8 stateful;
	/* Discard; else only count what would be. */
	__u8 enforce;
	/* There are never-block entries. */
	__u8 never;
	/* Pass everything when psc has been silent for a second. */
	__u8 heartbeat;
	/* Time comes from the clock map, and verdicts go to the told map. */
	__u8 test;
	/* Frames begin with an Ethernet header; else with that of IP. */
	__u8 ethernet;
	__u8 pad[2];
	struct psc_dim dim[PSC_MAX_DIMS];
};

/* What a rule does. */
struct psc_guard_rule {
	__u8 action;
	__u8 per;
	/* 1 ingress, 2 egress. */
	__u8 ways;
	/* 0 none, 1 packets, 2 bytes. */
	__u8 rate;
	/* Key whose different values are counted, or 0xff. */
	__u8 distinct;
	/* Only packets of sources that completed no handshake. */
	__u8 unproven;
	__u8 pad[2];
	__u32 over;
	__u32 pad2;
	__u64 within;
	__u64 amount;
	__u64 every;
	/* Time that an empty bucket takes to fill. */
	__u64 depth;
	/* 0 is no block. */
	__u64 block;
};

struct psc_state_key {
	__u32 rule;
	__u8 per;
	__u8 family;
	__u8 protocol;
	__u8 pad;
	__u16 sport;
	__u16 dport;
	__u8 src[16];
	__u8 dst[16];
};

struct psc_bucket {
	__u64 full_at;
	/* First packet of this key that was over. */
	__u64 first;
};

struct psc_cells {
	__u64 start;
	__u32 count;
	__u32 pad;
	__u64 bits[16];
};

struct psc_block {
	__u64 until;
	__u64 made;
	/* First packet that counted towards it; 0 when not known. */
	__u64 first;
	__u32 rule;
	__u32 pad;
};

/* Who is never discarded: a neighbour (src and mac) or a connection (everything but mac). */
struct psc_never_key {
	__u8 kind;
	__u8 family;
	__u8 protocol;
	__u8 pad;
	__u16 sport;
	__u16 dport;
	__u8 src[16];
	__u8 dst[16];
	__u8 mac[6];
	__u8 pad2[2];
};
#define PSC_NEVER_NEIGHBOUR 1
#define PSC_NEVER_CONNECTION 2

/* Per rule and CPU. */
struct psc_rule_counters {
	__u64 matched;
	__u64 matched_bytes;
	__u64 discarded;
	__u64 blocked;
	__u64 discarded_bytes;
	__u64 blocks;
	__u64 unproven;
	__u64 first;
	__u64 last;
};

/* Per CPU. */
struct psc_guard_totals {
	__u64 asked;
	__u64 asked_bytes;
	__u64 discarded;
	__u64 discarded_bytes;
	/* Would have been discarded, had psc not been told never to. */
	__u64 never;
	/* Headers went on beyond the window. */
	__u64 cut;
	/* State that there was no room or no time for: the packet passed. */
	__u64 no_state;
};

/* Verdict of one test run. */
struct psc_told {
	/* 1 discarded. */
	__u32 discard;
	/* 0 nothing, 1 a rule, 2 a block. */
	__u32 by;
	__u32 rule;
	__u32 noted;
	__u32 blocks;
	__u32 unproven;
	/* The first rules that counted, logged or alerted. */
	__u32 notes[16];
};

#endif
