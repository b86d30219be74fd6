/* SPDX-License-Identifier: MIT */
/* The tracepoints of sock, tcp and udp. */
#ifndef PSC_SOCK_PATH_H
#define PSC_SOCK_PATH_H

/*
 * An event about a socket, with its tuple. `skb` may be none. `tuple` is what the caller knows
 * when there is no socket.
 */
static __always_inline int sock_event(void *ctx, enum psc_probe probe, struct sock *sk,
				      struct sk_buff *skb, struct psc_record *rec,
				      struct psc_tuple *tuple, bool with_tuple)
{
	struct here here;

	if (config.empty || !find_here(&here))
		return 0;
	rec->head.type = PSC_EVENT;
	rec->head.probe = probe;
	if (sk && !is_inet(sk))
		return 0;
	if (sk) {
		put_sock_tuple(tuple, sk);
		if (!rec->netns)
			rec->netns = netns_of(sk->__sk_common.skc_net.net);
	}
	if (config.filtering &&
	    (!passes_filter(rec->netns, rec->ifindex) || is_excluded(tuple))) {
		__sync_fetch_and_add(&here.cpu->filtered, 1);
		return 0;
	}
	if (config.filtering && is_shed(tuple)) {
		__sync_fetch_and_add(&here.cpu->shed, 1);
		return 0;
	}
	if (skb) {
		rec->skb = (__u64)skb;
		rec->len = skb->len;
	}
	rec->context = context_here(&here);
	if (sk)
		put_sock(&here, rec, sk, with_tuple);
	put_stack(ctx, &here, rec,
		  path_key(ctx, &here, rec, skb, sk, tuple->protocol, rec->arg[0] >> 32), false);
	if (with_tuple)
		submit_tuple(&here, rec, tuple);
	else
		submit_plain(&here, rec);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(on_tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	__u16 segs, size;
	void *cb;

	if (config.retransmit_has_result)
		rec.arg[0] = (__u32)ctx[2];
	if (skb && bpf_core_field_exists(struct tcp_skb_cb, tcp_gso_segs)) {
		cb = (void *)skb + bpf_core_field_offset(struct sk_buff, cb);
		if (!bpf_probe_read_kernel(&segs, sizeof(segs),
					   cb + bpf_core_field_offset(struct tcp_skb_cb,
								      tcp_gso_segs)) &&
		    !bpf_probe_read_kernel(&size, sizeof(size),
					   cb + bpf_core_field_offset(struct tcp_skb_cb,
								      tcp_gso_size)) &&
		    segs > 1) {
			rec.gso_segs = segs;
			rec.gso_size = size;
		}
	}
	return sock_event(ctx, PROBE_TCP_RETRANSMIT_SKB, sk, skb, &rec, &tuple, true);
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(on_tcp_retransmit_synack, struct sock *sk, struct request_sock *req)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	/* The connection is in the request; the socket is the listener. */
	if (!req)
		return 0;
	return sock_event(ctx, PROBE_TCP_RETRANSMIT_SYNACK, (struct sock *)req, NULL, &rec, &tuple,
			  true);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(on_tcp_send_reset, struct sock *sk, struct sk_buff *skb)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	if (config.reset_has_reason)
		rec.arg[0] = (__u32)ctx[2];
	if (!sk && skb) {
		/* No socket: the tuple is that of the segment that is answered, turned round. */
		struct net_device *dev = late_device(skb);
		struct packet packet = {};

		if (dev)
			put_device(&rec, dev);
		find_packet(&packet, skb, dev, AT_ANY, true);
		tuple = packet.tuple;
		tuple.sport = packet.tuple.dport;
		tuple.dport = packet.tuple.sport;
		__builtin_memcpy(tuple.src, packet.tuple.dst, sizeof(tuple.src));
		__builtin_memcpy(tuple.dst, packet.tuple.src, sizeof(tuple.dst));
	}
	return sock_event(ctx, PROBE_TCP_SEND_RESET, sk, skb, &rec, &tuple, true);
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(on_tcp_receive_reset, struct sock *sk)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	return sock_event(ctx, PROBE_TCP_RECEIVE_RESET, sk, NULL, &rec, &tuple, true);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_inet_sock_set_state, struct sock *sk, int old, int new)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	rec.arg[0] = (__u8)old | (__u64)(__u8)new << 32;
	return sock_event(ctx, PROBE_SOCK_SET_STATE, sk, NULL, &rec, &tuple, true);
}

SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(on_tcp_destroy_sock, struct sock *sk)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	return sock_event(ctx, PROBE_TCP_DESTROY_SOCK, sk, NULL, &rec, &tuple, true);
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(on_inet_sk_error_report, struct sock *sk)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	if (sk)
		rec.arg[0] = (__u32)sk->sk_err;
	return sock_event(ctx, PROBE_SK_ERROR_REPORT, sk, NULL, &rec, &tuple, true);
}

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(on_udp_fail_queue_rcv_skb, int rc, struct sock *sk)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	struct sk_buff *skb = NULL;

	rec.arg[0] = (__u32)rc;
	if (config.udp_fail_has_skb)
		skb = (struct sk_buff *)ctx[2];
	return sock_event(ctx, PROBE_UDP_FAIL_QUEUE, sk, skb, &rec, &tuple, false);
}

SEC("tp_btf/sock_exceed_buf_limit")
int BPF_PROG(on_sock_exceed_buf_limit, struct sock *sk, void *proto, long allocated, int direction)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	rec.arg[0] = (__u64)allocated;
	rec.arg[1] = (__u8)direction;
	return sock_event(ctx, PROBE_EXCEED_BUF_LIMIT, sk, NULL, &rec, &tuple, false);
}

SEC("tp_btf/tcp_probe")
int BPF_PROG(on_tcp_probe, struct sock *sk, struct sk_buff *skb)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	rec.arg[0] = BPF_CORE_READ(tp, snd_cwnd) | (__u64)BPF_CORE_READ(tp, snd_ssthresh) << 32;
	/* The kernel keeps eight times the smoothed round trip. */
	rec.arg[1] = (BPF_CORE_READ(tp, srtt_us) >> 3) | (__u64)BPF_CORE_READ(tp, snd_wnd) << 32;
	return sock_event(ctx, PROBE_TCP_PROBE, sk, skb, &rec, &tuple, true);
}

SEC("tp_btf/tcp_cong_state_set")
int BPF_PROG(on_tcp_cong_state_set, struct sock *sk, __u8 state)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	rec.arg[0] = state;
	return sock_event(ctx, PROBE_TCP_CONG_STATE, sk, NULL, &rec, &tuple, true);
}

#define MSG_PEEK 0x2
#define MSG_ERRQUEUE 0x2000

static __always_inline bool takes_datagrams(struct sock *sk)
{
	return is_inet(sk) &&
	       (sk->sk_protocol == IPPROTO_UDP || sk->sk_protocol == IPPROTO_UDPLITE);
}

SEC("tp_btf/sk_data_ready")
int BPF_PROG(on_sk_data_ready, struct sock *sk)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	if (config.every_call)
		tells_of_data(sk);
	/* What TCP delivers is seen as it is copied; a datagram is seen here only. */
	if (!config.every_call && !(sk && takes_datagrams(sk)))
		return 0;
	return sock_event(ctx, PROBE_DATA_READY, sk, NULL, &rec, &tuple, false);
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(on_sock_send_length, struct sock *sk, int rc)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	/* -EAGAIN and -EPIPE are how full and closed sockets are meant to answer. */
	if (!config.every_call && (rc >= 0 || rc == -11 || rc == -32))
		return 0;
	rec.arg[0] = (__u32)rc;
	return sock_event(ctx, PROBE_SOCK_SEND, sk, NULL, &rec, &tuple, false);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(on_sock_recv_length, struct sock *sk, int rc, int flags)
{
	struct psc_record rec = {};
	struct psc_tuple tuple = {};

	/* Neither a look nor an error message takes anything out of the queue. */
	if (flags & (MSG_PEEK | MSG_ERRQUEUE))
		return 0;
	if (!config.every_call && (rc < 0 || !(sk && takes_datagrams(sk))))
		return 0;
	rec.arg[0] = (__u32)rc;
	return sock_event(ctx, PROBE_SOCK_RECV, sk, NULL, &rec, &tuple, false);
}

#endif
