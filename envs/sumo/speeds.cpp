// Speeds of many vehicles in one call from Python: libsumo's own functions, one vehicle after the other.

#include <string>

#if !_GLIBCXX_USE_CXX11_ABI
#error "The names of libsumo's functions in speeds.py are of another kind of string than this compiler's."
#endif

using SetSpeed = void (*)(const std::string& vehicle, double speed);
using GetSpeed = double (*)(const std::string& vehicle);

namespace {

// Calls `one(vehicle, its number)` until SUMO refuses; how many it did not refuse.
template <typename One>
long each(const char* const* vehicles, long count, One one) {
    std::string vehicle;
    for (long i = 0; i < count; ++i) {
        try {
            one(vehicle.assign(vehicles[i]), i);
        } catch (...) {  // Python asks once more, and tells why
            return i;
        }
    }
    return count;
}

}  // namespace

extern "C" {

long command_speeds(SetSpeed set, const char* const* vehicles, long count, const double* speeds) {
    return each(vehicles, count, [=](const std::string& vehicle, long i) { set(vehicle, speeds[i]); });
}

long read_speeds(GetSpeed get, const char* const* vehicles, long count, double* speeds) {
    return each(vehicles, count, [=](const std::string& vehicle, long i) { speeds[i] = get(vehicle); });
}

}  // extern "C"
