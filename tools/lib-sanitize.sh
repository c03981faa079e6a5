# The tests on a build with a sanitizer; sourced by tools/test, which hands over its arguments. docs/TESTING.md says what
# cannot run there.

sanitizer=$2
scratch=$top/.build/sanitize-$sanitizer
results=$scratch/results
reports=$scratch/reports
rm -rf "$results" "$reports"
mkdir -p "$results" "$reports"

need_packages "${build_packages[@]}" "${peer_packages[@]}"
need_swift
use_own_temporary_directory

# A report goes to a file, so that one from a process under test, whose output nobody reads, is found as well.
case $sanitizer in
thread)
    export TSAN_OPTIONS="suppressions=$top/tools/sanitize-thread.supp log_path=$reports/report"
    ;;
address)
    export ASAN_OPTIONS="detect_leaks=1 log_path=$reports/report"
    export LSAN_OPTIONS="suppressions=$top/tools/sanitize-leak.supp print_suppressions=0"
    ;;
esac

broken=0
echo "== build with the $sanitizer sanitizer"
swift build --package-path "$top" --scratch-path "$scratch" --sanitize=$sanitizer --build-tests
swift build --package-path "$top" --scratch-path "$scratch" --sanitize=$sanitizer --product weir

echo "== Swift tests"
sanitized_tests() {
    swift test --package-path "$top" --scratch-path "$scratch" --sanitize=$sanitizer --skip-build "$@"
}
WEIR_IO=uring sanitized_tests --xunit-output "$results/swift.xml" || broken=$((broken + 1))
WEIR_IO=epoll sanitized_tests --filter WeirIntegrationTests --xunit-output "$results/swift-epoll.xml" ||
    broken=$((broken + 1))

echo "== black-box tests"
make_venv
# What counts memory would count what the sanitizer keeps back, and what measures would measure the sanitizer.
for driver in uring epoll; do
    "$venv/bin/python" -m pytest "$peers" --weir "$scratch/debug/weir" --io $driver -m "not exact" \
        --junit-prefix $driver --junitxml "$results/peers-$driver.xml" || broken=$((broken + 1))
done

for report in "$reports"/*; do
    [ -e "$report" ] || continue
    broken=$((broken + 1))
    echo "== ${report##*/}"
    head -n 60 "$report"
done
status=0
python3 "$top/tools/lib-count.py" --broken $broken "$results"/*.xml || status=$?
exit $status
