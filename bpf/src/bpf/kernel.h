/* SPDX-License-Identifier: MIT */
/*
 * The parts of kernel structs that psc reads, written by hand. Only names matter: CO-RE
 * relocates every access against the running kernel, so layout, order and missing members here
 * mean nothing. One header for every architecture and kernel, unlike a vmlinux.h dump.
 */
#ifndef PSC_KERNEL_H
#define PSC_KERNEL_H

/* For bpf_tracing.h: registers have the kernel's own names. */
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* <linux/bpf.h>, the values that are used. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_F_MMAPABLE = 1U << 10 };
enum { BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1ULL << 0 };

/* Stable numbers of the socket and link interfaces. */
#define AF_INET 2
#define AF_INET6 10
#define AF_PACKET 17
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_ARP 0x0806
#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772
#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_UDPLITE 136
#define IPPROTO_ICMPV6 58
#define TCP_TIME_WAIT 6
#define TCP_NEW_SYN_RECV 12
#define LINKTYPE_ETHERNET 1
#define LINKTYPE_RAW 101

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	unsigned short type;
	possible_net_t nd_net;
};

/* Also stands for any 32-bit word; see read_u32(). */
struct in_addr {
	__be32 s_addr;
};

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

typedef struct {
	__s64 counter;
} atomic64_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

typedef struct {
	int counter;
} atomic_t;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_rcvbuf;
	int sk_err;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
};

struct request_sock {
	struct sock_common __req_common;
};

struct tcp_sock {
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
	__u32 srtt_us;
	__u32 snd_wnd;
};

struct sk_buff {
	struct sk_buff *next;
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	unsigned int data_len;
	char cb[48];
	int skb_iif;
	__be16 protocol;
	__u16 transport_header;
	__u16 network_header;
	__u16 mac_header;
	unsigned int tail;
	unsigned int end;
	unsigned char *head;
	unsigned char *data;
};

/* TCP's part of `skb->cb`: segments of a queued skb, which skb_shared_info has only in flight. */
struct tcp_skb_cb {
	__u16 tcp_gso_segs;
	__u16 tcp_gso_size;
};

struct skb_shared_info {
	unsigned short gso_size;
	unsigned short gso_segs;
	unsigned int gso_type;
	struct sk_buff *frag_list;
};

struct netdev_queue {
	struct net_device *dev;
};

struct Qdisc {
	__u32 handle;
	struct netdev_queue *dev_queue;
};

struct neigh_table {
	int family;
};

struct neighbour {
	struct neigh_table *tbl;
	struct net_device *dev;
	__u8 nud_state;
	unsigned char ha[32];
	__u8 primary_key[0];
};

struct fib_nh_common {
	struct net_device *nhc_dev;
};

struct flowi_common {
	__u8 flowic_proto;
};

union flowi_uli {
	struct {
		__be16 dport;
		__be16 sport;
	} ports;
};

struct flowi4 {
	struct flowi_common __fl_common;
	__be32 saddr;
	__be32 daddr;
	union flowi_uli uli;
};

struct flowi6 {
	struct flowi_common __fl_common;
	struct in6_addr daddr;
	struct in6_addr saddr;
	union flowi_uli uli;
};

struct fib6_nh {
	struct fib_nh_common nh_common;
};

struct fib6_result {
	struct fib6_nh *nh;
};

struct fib6_table {
	__u32 tb6_id;
};

struct napi_struct {
	struct net_device *dev;
};

struct net_bridge {
	struct net_device *dev;
};

struct net_bridge_port {
	struct net_device *dev;
};

struct nf_hook_state {
	__u8 hook;
	__u8 pf;
};

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
};

struct nft_table {
	char *name;
};

struct nft_chain {
	struct nft_table *table;
	char *name;
};

struct xt_table {
	char name[32];
};

struct ip_fraglist_iter {
	struct sk_buff *frag;
};

/* Registers as bpf_tracing.h calls them. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, cx, r8, r9, bp, ax, sp, ip;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
};
struct pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
};
#endif

struct rq {
	int cpu;
};

struct cfs_rq {
	struct rq *rq;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	int pid;
	int on_cpu;
	__u32 self_exec_id;
	struct sched_entity se;
	struct nsproxy *nsproxy;
};

/*
 * Where each architecture and configuration keeps the preemption count and syscall number. On
 * arm64 the field is 64 bits wide and its low half is the count; the relocation widens the load.
 */
struct thread_info___plain {
	int preempt_count;
};
struct task_struct___plain {
	struct thread_info___plain thread_info;
};
struct task_struct___rt {
	int softirq_disable_cnt;
};
struct pt_regs___x86 {
	unsigned long orig_ax;
};
struct pt_regs___arm64 {
	__s32 syscallno;
};

#pragma clang attribute pop

#endif
