//! What can be said of event kinds without knowing their fields.

use super::EventKind;
use crate::flow::FiveTuple;

impl EventKind {
    /// The tuple that the event itself carries, as the probe had it: a connection local end first,
    /// or a flow looked up. Neighbours have an address and no tuple.
    pub fn tuple(&self) -> Option<FiveTuple> {
        match self {
            Self::Retransmit { tuple, .. }
            | Self::RetransmitFailed { tuple, .. }
            | Self::RetransmitSynAck { tuple }
            | Self::SendReset { tuple, .. }
            | Self::ReceiveReset { tuple }
            | Self::SockState { tuple, .. }
            | Self::SockDestroy { tuple }
            | Self::SockError { tuple, .. }
            | Self::RouteLookup { tuple, .. }
            | Self::TcpProbe { tuple, .. }
            | Self::CongestionState { tuple, .. }
            | Self::SockSeen { tuple, .. } => Some(*tuple),
            Self::Captured { .. }
            | Self::GroReceive {}
            | Self::BacklogQueue {}
            | Self::Receive {}
            | Self::DeviceQueue {}
            | Self::QdiscEnqueue { .. }
            | Self::QdiscDequeue { .. }
            | Self::TransmitStart {}
            | Self::TransmitDone { .. }
            | Self::Free { .. }
            | Self::Consume { .. }
            | Self::CopyToUser { .. }
            | Self::ReceiveQueueFull { .. }
            | Self::UdpQueueFail { .. }
            | Self::BufferLimit { .. }
            | Self::BadChecksum {}
            | Self::IcmpSend { .. }
            | Self::Neighbour { .. }
            | Self::NapiPoll { .. }
            | Self::XdpException { .. }
            | Self::XdpRedirect { .. }
            | Self::DataReady {}
            | Self::SockReceive { .. }
            | Self::SockSend { .. }
            | Self::TransmitTimeout { .. }
            | Self::Repeated { .. }
            | Self::BridgeLearn { .. }
            | Self::ReceiveReturn { .. }
            | Self::FunctionEntry { .. }
            | Self::FunctionReturn { .. }
            | Self::Cloned { .. }
            | Self::Copied { .. }
            | Self::Segmented { .. }
            | Self::Merged { .. }
            | Self::Fragmented { .. }
            | Self::Reassembled { .. }
            | Self::NetfilterHook { .. }
            | Self::Handed { .. }
            | Self::Softirq { .. }
            | Self::Scheduled { .. } => None,
        }
    }

    /// Whether the event is of tier 2 or 1b: a function probe or a netfilter link; or was put in when recordings
    /// were merged. Without these events, a recording is what tier 1 alone would have made.
    pub fn is_deeper_tier(&self) -> bool {
        matches!(
            self,
            Self::FunctionEntry { .. }
                | Self::FunctionReturn { .. }
                | Self::Cloned { .. }
                | Self::Copied { .. }
                | Self::Segmented { .. }
                | Self::Merged { .. }
                | Self::Fragmented { .. }
                | Self::Reassembled { .. }
                | Self::NetfilterHook { .. }
                | Self::Handed { .. }
        )
    }

    /// The other skb that a lineage event names.
    pub fn other_skb(&self) -> Option<super::SkbAddr> {
        match *self {
            Self::Cloned { child }
            | Self::Copied { child }
            | Self::Segmented { child }
            | Self::Fragmented { child }
            | Self::Handed { child, .. } => Some(child),
            Self::Merged { into } | Self::Reassembled { into } => Some(into),
            _ => None,
        }
    }
}
