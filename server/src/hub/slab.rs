//! Slots in pages: a place and a generation name one, so that what comes late for a slot never meets its successor.

use std::num::NonZeroU64;

/// Slots of a page: growing costs one page, and copies nothing.
const PAGE: u32 = 256;
/// The end of the list of free places.
const NONE: u32 = u32::MAX;

/// What names a slot: the place in the lower half, the generation, which is never 0, in the upper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(NonZeroU64);

/// Slots.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Box<[Place<T>]>>,
    free: u32,
}

#[derive(Debug)]
pub(super) struct Place<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Free { next: u32 },
    Used(T),
}

// === impl Ticket ===

impl Ticket {
    fn new(place: u32, generation: u32) -> Self {
        Self(NonZeroU64::new(u64::from(generation) << 32 | u64::from(place)).unwrap_or(NonZeroU64::MIN))
    }

    /// What [`Ticket::to_bits`] gave; none for 0.
    pub fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    /// As a number, never 0.
    pub fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// The place.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) fn place(self) -> u32 {
        self.0.get() as u32
    }

    fn generation(self) -> u32 {
        u32::try_from(self.0.get() >> 32).unwrap_or_default()
    }
}

// === impl Slab ===

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), free: NONE }
    }
}

impl<T> Slab<T> {
    /// Puts something into a free place.
    pub(super) fn insert(&mut self, value: T) -> Ticket {
        if self.free == NONE {
            self.grow();
        }
        let index = self.free;
        let place = &mut self.pages[(index / PAGE) as usize][(index % PAGE) as usize];
        if let Content::Free { next } = place.content {
            self.free = next;
        }
        place.content = Content::Used(value);
        Ticket::new(index, place.generation)
    }

    fn grow(&mut self) {
        let (first, last) = (self.places(), PAGE - 1);
        let place = |n| Place { generation: 1, content: Content::Free { next: if n == last { NONE } else { first + n + 1 } } };
        self.pages.push((0..=last).map(place).collect());
        self.free = first;
    }

    fn place(&self, index: u32) -> Option<&Place<T>> {
        self.pages.get((index / PAGE) as usize)?.get((index % PAGE) as usize)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        self.pages.get_mut((index / PAGE) as usize)?.get_mut((index % PAGE) as usize)
    }

    /// What a ticket names, unless it is gone.
    pub(super) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        match self.place_mut(ticket.place())? {
            Place { generation, content: Content::Used(value) } if *generation == ticket.generation() => Some(value),
            Place { .. } => None,
        }
    }

    /// What is in a place.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        match &self.place(index)?.content {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// The ticket of what is in a place.
    pub(super) fn ticket(&self, index: u32) -> Option<Ticket> {
        self.at(index)?;
        Some(Ticket::new(index, self.place(index)?.generation))
    }

    /// Takes out what a ticket names.
    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        self.get_mut(ticket)?;
        let next = self.free;
        let place = self.place_mut(ticket.place())?;
        // Never 0, which would be no ticket.
        place.generation = place.generation.checked_add(1).unwrap_or(1);
        let content = std::mem::replace(&mut place.content, Content::Free { next });
        self.free = ticket.place();
        match content {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// How many places are used.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    /// One past the last place there is.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.pages.len()).map_or(NONE, |pages| pages.saturating_mul(PAGE))
    }

    /// All that is there, with its ticket.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ticket, &T)> {
        (0..self.places()).filter_map(|index| Some((self.ticket(index)?, self.at(index)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_never_opens_the_slot_of_a_successor() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(first.place(), second.place(), "the place is used again");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.ticket(second.place()), Some(second));
        assert_eq!(Ticket::from_bits(second.to_bits()), Some(second));
        assert_eq!(Ticket::from_bits(0), None);
    }

    #[test]
    fn places_grow_by_pages_and_are_used_again() {
        let mut slab = Slab::default();
        let tickets: Vec<_> = (0..=PAGE * 2).map(|n| slab.insert(n)).collect();
        assert_eq!((slab.len(), slab.places()), (PAGE as usize * 2 + 1, PAGE * 3));
        for ticket in tickets.iter().step_by(2) {
            slab.remove(*ticket).unwrap();
        }
        for n in 0..=PAGE {
            slab.insert(n);
        }
        assert_eq!((slab.len(), slab.places()), (PAGE as usize * 2 + 1, PAGE * 3));
    }
}
