//! What the operating system knows about this process, under the names that every Prometheus client uses.

use crate::telemetry::metric::Metric;
use crate::telemetry::page::Page;

/// Adds what can be found out; elsewhere than on Linux, nothing.
pub fn describe(page: &mut Page) {
    #[cfg(target_os = "linux")]
    if let Ok(process) = procfs::process::Process::myself() {
        linux(&process, page);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (page, Metric::ProcessCpu);
}

#[cfg(target_os = "linux")]
fn linux(process: &procfs::process::Process, page: &mut Page) {
    use procfs::WithCurrentSystemInfo;
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        page.add(Metric::ProcessCpu, &[], (stat.utime + stat.stime) as f64 / ticks);
        page.add(Metric::ProcessResident, &[], stat.rss_bytes().get());
        page.add(Metric::ProcessVirtual, &[], stat.vsize);
        page.add(Metric::ProcessThreads, &[], stat.num_threads);
        if let Ok(boot) = procfs::boot_time_secs() {
            page.add(Metric::ProcessStart, &[], boot as f64 + stat.starttime as f64 / ticks);
        }
    }
    if let Ok(count) = process.fd_count() {
        page.add(Metric::ProcessFiles, &[], count);
    }
    if let Ok(limits) = process.limits() {
        let most = match limits.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(most) => most.to_string(),
            procfs::process::LimitValue::Unlimited => "+Inf".to_owned(),
        };
        page.add(Metric::ProcessMaxFiles, &[], most);
    }
}
