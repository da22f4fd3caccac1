//! Files, disks, databases, signals and clocks that misbehave.
