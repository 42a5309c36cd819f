//! The wall: everything that storage keeps is sealed here.
