//! Which packets refer to which, for codecs whose headers say so.

/// For each packet, the earlier packets that it refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Where the packet's list ends in `packets`.
    ends: Vec<usize>,
    packets: Vec<u32>,
}

impl References {
    /// Adds the list of the next packet.
    pub(crate) fn push(&mut self, references: &[u32]) {
        self.packets.extend_from_slice(references);
        self.ends.push(self.packets.len());
    }

    /// The packets that `packet` refers to.
    pub(crate) fn of(&self, packet: usize) -> &[u32] {
        let start = packet.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.packets[start..self.ends[packet]]
    }
}
