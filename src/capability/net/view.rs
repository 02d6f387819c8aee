use std::marker::PhantomData;

use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use crate::guest::NetGuest;

/// The data of a store that can have a network.
pub trait HasNet: Send + 'static {
    /// The parts that host functions of this crate work on.
    fn net(&mut self) -> NetParts<'_>;

    /// Takes one host call from the budget of the running call. Each host function of this crate begins with it.
    ///
    /// # Errors
    /// When the budget is used up: the call traps with this error.
    fn charge(&mut self) -> wasmtime::Result<()>;
}

/// What a host function of this crate works on.
pub struct NetParts<'a> {
    /// The instance's network.
    pub guest: &'a mut NetGuest,
    /// The instance's resources.
    pub table: &'a mut ResourceTable,
}

impl NetParts<'_> {
    /// wasmtime's own implementation, over the same table. It is called after a decision, never instead of one.
    pub(crate) fn inner(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: &mut self.guest.wasi, table: self.table }
    }
}

/// What WASI's traits are implemented on. The store's data can be reached through [`View::enter`] alone, so that no host
/// function can forget to be counted.
pub(crate) struct View<'a, T>(&'a mut T);

impl<T: HasNet> View<'_, T> {
    pub(crate) fn of(data: &mut T) -> View<'_, T> {
        View(data)
    }

    pub(crate) fn enter(&mut self) -> wasmtime::Result<NetParts<'_>> {
        self.0.charge()?;
        let parts = self.0.net();
        if let Some(egress) = parts.guest.gate.egress() {
            // Each entry keeps memory of the host. Set here, since the table is the owner's of the store.
            parts.table.set_max_capacity(egress.settings().limits.handles as usize);
        }
        Ok(parts)
    }

    /// For what wasmtime calls by itself: the form of an error, the end of a handle.
    pub(crate) fn uncounted(&mut self) -> NetParts<'_> {
        self.0.net()
    }
}

/// Tells wasmtime's linker of [`View`].
pub(crate) struct HasView<T>(PhantomData<T>);

impl<T: HasNet> HasData for HasView<T> {
    type Data<'a> = View<'a, T>;
}
