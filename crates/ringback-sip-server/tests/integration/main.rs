//! The server as its peers see it: real sockets on free ports, a real directory and index.

#[cfg(test)]
mod forward;
#[cfg(test)]
mod learning;
#[cfg(test)]
mod names;
mod observation;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod redirect;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod support;
#[cfg(test)]
mod torture;
