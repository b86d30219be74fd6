/* SPDX-License-Identifier: MIT */
/* Tracepoints without an skb: drivers, XDP, neighbours, routes and bridges. */
#ifndef PSC_LINK_PATH_H
#define PSC_LINK_PATH_H

static __always_inline int device_event(void *ctx, enum psc_probe probe, struct net_device *dev,
					struct psc_record *rec, struct psc_tuple *tuple)
{
	struct here here;

	if (config.empty || !find_here(&here))
		return 0;
	rec->head.type = PSC_EVENT;
	rec->head.probe = probe;
	if (dev)
		put_device(rec, dev);
	if (config.filtering && !passes_filter(rec->netns, rec->ifindex)) {
		__sync_fetch_and_add(&here.cpu->filtered, 1);
		return 0;
	}
	rec->context = context_here(&here);
	put_stack(ctx, &here, rec, path_key(ctx, &here, rec, NULL, NULL, 0, 0), false);
	if (tuple)
		submit_tuple(&here, rec, tuple);
	else
		submit_plain(&here, rec);
	return 0;
}

SEC("tp_btf/xdp_exception")
int BPF_PROG(on_xdp_exception, struct net_device *dev, void *program, __u32 action)
{
	struct psc_record rec = {};

	rec.arg[0] = action;
	return device_event(ctx, PROBE_XDP_EXCEPTION, dev, &rec, NULL);
}

SEC("tp_btf/xdp_redirect")
int BPF_PROG(on_xdp_redirect, struct net_device *dev, void *program, void *target, int rc,
	     int map_type, __u32 map_id, __u32 index)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)rc | (__u64)index << 32;
	return device_event(ctx, PROBE_XDP_REDIRECT, dev, &rec, NULL);
}

SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(on_xdp_redirect_err, struct net_device *dev, void *program, void *target, int rc,
	     int map_type, __u32 map_id, __u32 index)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)rc | (__u64)index << 32;
	return device_event(ctx, PROBE_XDP_REDIRECT_ERR, dev, &rec, NULL);
}

SEC("tp_btf/net_dev_xmit_timeout")
int BPF_PROG(on_net_dev_xmit_timeout, struct net_device *dev, int queue)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)queue;
	return device_event(ctx, PROBE_XMIT_TIMEOUT, dev, &rec, NULL);
}

SEC("tp_btf/napi_poll")
int BPF_PROG(on_napi_poll, struct napi_struct *napi, int work, int budget)
{
	struct psc_record rec = {};

	rec.arg[0] = (__u32)work | (__u64)(__u32)budget << 32;
	return device_event(ctx, PROBE_NAPI_POLL, napi->dev, &rec, NULL);
}

#define RETURN_PROGRAM(name, probe)                                                                \
	SEC("tp_btf/" #name)                                                                       \
	int BPF_PROG(on_##name, int rc)                                                            \
	{                                                                                          \
		struct psc_record rec = {};                                                        \
                                                                                                   \
		rec.arg[0] = (__u32)rc;                                                            \
		return device_event(ctx, probe, NULL, &rec, NULL);                                 \
	}

RETURN_PROGRAM(netif_rx_exit, PROBE_NETIF_RX_EXIT)
RETURN_PROGRAM(netif_receive_skb_exit, PROBE_NETIF_RECEIVE_SKB_EXIT)
RETURN_PROGRAM(netif_receive_skb_list_exit, PROBE_NETIF_RECEIVE_LIST_EXIT)
RETURN_PROGRAM(napi_gro_receive_exit, PROBE_GRO_RECEIVE_EXIT)
RETURN_PROGRAM(napi_gro_frags_exit, PROBE_GRO_FRAGS_EXIT)

static __always_inline __u64 read_mac(const void *from)
{
	__u8 mac[6] = {};
	__u64 value = 0;

	if (!from || bpf_probe_read_kernel(mac, sizeof(mac), from))
		return 0;
	for (int i = 0; i < 6; i++)
		value = value << 8 | mac[i];
	return value;
}

static __always_inline int neighbour_event(void *ctx, enum psc_probe probe, struct neighbour *n,
					   const void *mac, __u8 new_state)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	const void *key;

	if (config.empty || !n)
		return 0;
	key = (void *)n + bpf_core_field_offset(struct neighbour, primary_key);
	if (n->tbl->family == AF_INET) {
		tuple.family = 4;
		bpf_probe_read_kernel(tuple.src, 4, key);
	} else {
		tuple.family = 6;
		bpf_probe_read_kernel(tuple.src, 16, key);
	}
	rec.arg[0] = read_mac(mac);
	rec.arg[1] = n->nud_state | (__u64)new_state << 32;
	return device_event(ctx, probe, n->dev, &rec, &tuple);
}

#define NEIGHBOUR_HA(n) ((void *)(n) + bpf_core_field_offset(struct neighbour, ha))

SEC("tp_btf/neigh_update")
int BPF_PROG(on_neigh_update, struct neighbour *n, void *mac, __u8 new_state)
{
	return neighbour_event(ctx, PROBE_NEIGH_UPDATE, n, mac, new_state);
}

SEC("tp_btf/neigh_create")
int BPF_PROG(on_neigh_create, void *table, void *dev, void *key, struct neighbour *n)
{
	return neighbour_event(ctx, PROBE_NEIGH_CREATE, n, NULL, 0);
}

#define NEIGHBOUR_PROGRAM(name, probe)                                                             \
	SEC("tp_btf/" #name)                                                                       \
	int BPF_PROG(on_##name, struct neighbour *n)                                               \
	{                                                                                          \
		return neighbour_event(ctx, probe, n, NEIGHBOUR_HA(n), n->nud_state);              \
	}

NEIGHBOUR_PROGRAM(neigh_timer_handler, PROBE_NEIGH_TIMER)
NEIGHBOUR_PROGRAM(neigh_event_send_done, PROBE_NEIGH_SEND_DONE)
NEIGHBOUR_PROGRAM(neigh_event_send_dead, PROBE_NEIGH_SEND_DEAD)
NEIGHBOUR_PROGRAM(neigh_cleanup_and_release, PROBE_NEIGH_CLEANUP)

/*
 * A lookup that ends the packet's way: a route that says no, or nothing in the main table. A miss
 * elsewhere (-EAGAIN) only leads to the next rule.
 */
static __always_inline bool refuses(__u32 table, int rc)
{
	return rc < 0 && (rc != -11 /* EAGAIN */ || table == 254 /* RT_TABLE_MAIN */);
}

/*
 * A lookup without a device has no namespace but that of the task that called; 0 in softirq, where drops
 * tell of the same.
 */
static __always_inline __u32 caller_netns(void)
{
	struct nsproxy *spaces;
	struct here here;
	int count;

	if (config.empty || !find_here(&here))
		return 0;
	count = preempt_count(&here);
	if (count == -1 || count & HARDIRQ_OR_NMI || serves_softirq(count))
		return 0;
	spaces = ((struct task_struct *)bpf_get_current_task_btf())->nsproxy;
	return spaces ? netns_of(spaces->net_ns) : 0;
}

SEC("tp_btf/fib_table_lookup")
int BPF_PROG(on_fib_table_lookup, __u32 table, struct flowi4 *flow, struct fib_nh_common *hop,
	     int rc)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	struct net_device *dev = hop ? hop->nhc_dev : NULL;

	if (!config.every_call && !refuses(table, rc))
		return 0;
	if (!dev)
		rec.netns = caller_netns();
	if (!dev && !rec.netns && !config.every_call)
		return 0;
	tuple.family = 4;
	tuple.protocol = flow->__fl_common.flowic_proto;
	*(__u32 *)tuple.src = flow->saddr;
	*(__u32 *)tuple.dst = flow->daddr;
	if (tuple.protocol == IPPROTO_TCP || tuple.protocol == IPPROTO_UDP) {
		tuple.sport = from_be16(flow->uli.ports.sport);
		tuple.dport = from_be16(flow->uli.ports.dport);
	}
	rec.arg[0] = table | (__u64)(dev ? dev->ifindex : 0) << 32;
	rec.arg[1] = (__u32)rc;
	return device_event(ctx, PROBE_FIB_LOOKUP, dev, &rec, &tuple);
}

SEC("tp_btf/fib6_table_lookup")
int BPF_PROG(on_fib6_table_lookup, struct net *net, struct fib6_result *result,
	     struct fib6_table *table, struct flowi6 *flow)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	struct fib6_nh *hop = result->nh;
	struct net_device *dev = hop ? hop->nh_common.nhc_dev : NULL;

	tuple.family = 6;
	tuple.protocol = flow->__fl_common.flowic_proto;
	put_v6(tuple.src, &flow->saddr);
	put_v6(tuple.dst, &flow->daddr);
	if (tuple.protocol == IPPROTO_TCP || tuple.protocol == IPPROTO_UDP) {
		tuple.sport = from_be16(flow->uli.ports.sport);
		tuple.dport = from_be16(flow->uli.ports.dport);
	}
	rec.netns = netns_of(net);
	rec.arg[0] = table->tb6_id | (__u64)(dev ? dev->ifindex : 0) << 32;
	return device_event(ctx, PROBE_FIB6_LOOKUP, dev, &rec, &tuple);
}

SEC("tp_btf/br_fdb_update")
int BPF_PROG(on_br_fdb_update, struct net_bridge *bridge, struct net_bridge_port *port, void *mac,
	     __u16 vlan)
{
	struct psc_record rec = {};

	rec.arg[0] = read_mac(mac);
	rec.arg[1] = vlan;
	return device_event(ctx, PROBE_FDB_UPDATE, port ? port->dev : bridge->dev, &rec, NULL);
}

SEC("tp_btf/br_fdb_add")
int BPF_PROG(on_br_fdb_add, void *message, struct net_device *dev, void *mac, __u16 vlan)
{
	struct psc_record rec = {};

	rec.arg[0] = read_mac(mac);
	rec.arg[1] = vlan;
	return device_event(ctx, PROBE_FDB_ADD, dev, &rec, NULL);
}

SEC("tp_btf/br_fdb_external_learn_add")
int BPF_PROG(on_br_fdb_external_learn_add, struct net_bridge *bridge,
	     struct net_bridge_port *port, void *mac, __u16 vlan)
{
	struct psc_record rec = {};

	rec.arg[0] = read_mac(mac);
	rec.arg[1] = vlan;
	return device_event(ctx, PROBE_FDB_EXTERNAL, port ? port->dev : bridge->dev, &rec, NULL);
}

#endif
