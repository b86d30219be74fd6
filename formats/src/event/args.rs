//! The fields of event kinds as integers, which is how archives store them.

use super::{SkbAddr, SockId, SymbolId};
use crate::flow::FiveTuple;

/// What a field of an [`EventKind`] means, for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgValue {
    /// A number; the field's documentation has the unit.
    Number(i128),
    /// A place in the kernel's code.
    Symbol(SymbolId),
    /// A socket.
    Socket(SockId),
    /// Another skb, by its address.
    Skb(SkbAddr),
    /// A flow or connection.
    Tuple(FiveTuple),
}

/// A field that archives store as whole integers.
pub(super) trait Arg: Sized {
    const WIDTH: usize = 1;
    fn put(&self, out: &mut Vec<u64>);
    fn value(&self) -> ArgValue;
    fn take(args: &mut impl Iterator<Item = u64>) -> Option<Self>;
}

macro_rules! int_arg {
    ($($ty:ty),*) => { $( impl Arg for $ty {
        fn put(&self, out: &mut Vec<u64>) { out.push(*self as u64); }
        fn value(&self) -> ArgValue { ArgValue::Number((*self).into()) }
        fn take(args: &mut impl Iterator<Item = u64>) -> Option<Self> {
            let raw = args.next()?;
            let value = raw as $ty;
            (value as u64 == raw).then_some(value)
        }
    } )* };
}
int_arg!(u8, u16, u32, u64, i32, i64);

macro_rules! id_arg {
    ($($ty:ident: $int:ty => $show:ident),*) => { $( impl Arg for $ty {
        fn put(&self, out: &mut Vec<u64>) { self.0.put(out); }
        fn value(&self) -> ArgValue { ArgValue::$show(*self) }
        fn take(args: &mut impl Iterator<Item = u64>) -> Option<Self> {
            <$int as Arg>::take(args).map($ty)
        }
    } )* };
}
id_arg!(SymbolId: u32 => Symbol, SockId: u32 => Socket, SkbAddr: u32 => Skb);

impl Arg for FiveTuple {
    const WIDTH: usize = 5;
    fn put(&self, out: &mut Vec<u64>) {
        out.extend_from_slice(&self.to_words());
    }
    fn value(&self) -> ArgValue {
        ArgValue::Tuple(*self)
    }
    fn take(args: &mut impl Iterator<Item = u64>) -> Option<Self> {
        let mut words = [0; 5];
        for word in &mut words {
            *word = args.next()?;
        }
        Self::from_words(words)
    }
}
