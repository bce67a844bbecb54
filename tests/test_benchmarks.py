"""The parts of the command that measures performance: processes that take turns, tables, and what is measured."""

import inspect
import json
import time

import keras
import pytest

from benchmarks import contenders, machine, profiles, results, step_costs, subjects, worker
from benchmarks.alternating import Contender, Turns, alternate
from keras_resnet.models import blocks
from keras_resnet.models.blocks import BlockOptions


def test_contenders_take_turns_and_one_that_fails_is_left_out():
    notes = []
    found = alternate(
        [
            Contender("a", "importing", {"module": "json"}),
            Contender("b", "importing", {"module": "no_such_module"}),
            Contender("c", "importing", {"module": "wave", "after": ["json"], "attribute": "open"}, fresh=True),
        ],
        rounds=2,
        seconds=0.0,
        note=notes.append,
    )
    assert [note.split(":")[0] for note in notes] == ["b", "a", "c", "c", "a"]
    assert found["b"].error == "ModuleNotFoundError: No module named 'no_such_module'"
    for name in "ac":
        assert found[name].error is None
        assert found[name].amounts == [1, 1]
        assert all(seconds > 0 for seconds in found[name].seconds)
        assert all(5 < peak < 1000 for peak in found[name].peak_mib)


def test_a_turn_is_repeated_until_its_time_is_over_but_not_in_a_fresh_process():
    rows = [Contender(name, "importing", {"module": "json"}, fresh=name == "b") for name in "ab"]
    found = alternate(rows, 1, 0.05, note=lambda line: None)
    assert found["a"].amounts[0] > 10
    assert 0.05 <= found["a"].seconds[0] < 1
    assert found["b"].amounts == [1]


def test_a_deadline_leaves_out_contenders():
    """One that is not started because it needs longer, and one that is stopped while it starts."""
    rows = [Contender("long", "importing", planned=1000.0), Contender("late", "importing", {"module": "json"})]
    found = alternate(rows, 1, 0.0, note=lambda line: None, deadline=time.monotonic() + 0.01)
    assert {name: turns.error for name, turns in found.items()} == {
        "long": "no time left",
        "late": "stopped at the time limit",
    }
    found = alternate(rows[1:], 1, 0.0, note=lambda line: None, deadline=time.monotonic() + 100)
    assert found["late"].error is None


def turns(*seconds, amount=10):
    count = len(seconds)
    return Turns([amount] * count, list(seconds), [2 * s for s in seconds], [100.0] * count)


def test_tables_by_hand(tmp_path):
    """10 images in 1 s against 10 in 2 s, where 1 s of matrix products of 8e9 operations is the limit."""
    rows = [
        Contender("keras_resnet", "keras_training", operations=4e8),
        Contender("other", "keras_training", operations=4e8),
        Contender("broken", "keras_training"),
        Contender("products", "matrix_product", operations=8e9, is_limit=True),
    ]
    found = {
        "keras_resnet": turns(1.0, 1.25, 0.5),
        "other": turns(2.0, 2.0, 2.5),
        "broken": Turns(error="no | such thing"),
        "products": turns(1.0, 1.0, 1.0, amount=1),
    }
    table = results.Table.of("training", "A step", "images/s", rows, found)
    ours, other, broken, products = table.rows
    assert ours.values == [10, 8, 20]
    assert ours.processor == [5, 4, 10]
    assert (ours.rate, ours.share, products.share) == (4e9, 0.5, 1.0)
    assert other.values == [5, 5, 4]
    assert broken.values == []
    lines = table.markdown().splitlines()
    assert lines[4] == "| keras_resnet | 10.0 (8.0-20.0) | 1.00 (1.00-1.00) | 1.00 | 4 | 50% | 100 |"
    assert lines[5] == "| other | 5.00 (4.00-5.00) | 2.00 (1.60-5.00) | 2.00 | 2 | 25% | 100 |"
    assert lines[6] == "| broken | not measured: no / such thing | | | | | |"
    assert lines[7] == "| products |  |  |  | 8 | 100% | 100 |"
    values = json.loads(json.dumps(table.to_dict()))["rows"]
    assert values[1]["first_over_this"] == 2.0
    assert values[1]["by_round"] == [2.0, 1.6, 5.0]
    assert "by_round" not in values[3]
    results.plot([table], tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 5000


def test_tables_of_a_gpu_by_hand(tmp_path):
    """The largest product is of another table; differences have no ratios."""
    products = [Contender(name, "matrix_product", operations=8e9, is_limit=True) for name in ("jax", "torch")]
    limits = results.limits(products, {"jax": turns(1.0, amount=1), "torch": Turns(error="broken")})
    assert limits == {"float32": 8e9}
    rows = [Contender(name, "keras_training", operations=4e8) for name in ("keras_resnet", "other")]
    found = {"keras_resnet": turns(1.0), "other": turns(2.0), "missing": Turns(error="no time left")}
    for each, memory in (("keras_resnet", 1000.0), ("other", 2000.0)):
        found[each].device_mib.append(memory)
    rows.append(Contender("missing", "keras_training"))
    lines = results.Table.of("gpu_training", "A step", "images/s", rows, found, limits).markdown().splitlines()
    assert lines[2].endswith("| of matrix product | peak MiB | GPU MiB |")
    assert lines[4] == "| keras_resnet | 10.0 | 1.00 (1.00-1.00) |  | 4 | 50% | 100 | 1000 |"
    assert lines[5] == "| other | 5.00 | 2.00 (2.00-2.00) |  | 2 | 25% | 100 | 2000 |"
    assert lines[6] == "| missing | not measured: no time left | | | | | | |"
    assert all(line.count("|") == 9 for line in lines[2:])

    found = {"keras_resnet": turns(9.0, amount=0.0), "other": turns(9.0, amount=2e-5)}
    table = results.Table.of("outputs", "Differences", "difference", rows[:2], found)
    assert [line.split("|")[2].strip() for line in table.markdown().splitlines()[4:]] == ["0", "0.0000200"]
    assert "by_round" not in table.to_dict()["rows"][1]
    results.plot([results.Table.of("products", "Products", "images/s", products[:1], {"jax": turns(1.0)})], tmp_path)


GPU_PROGRAM = """\
HloModule jit_train_step

%fused_add (param_0: f32[8,4], param_1: f32[8,4]) -> f32[8,4] {
  %param_0 = f32[8,4]{1,0} parameter(0)
  %param_1 = f32[8,4]{1,0} parameter(1)
  ROOT %add.1 = f32[8,4]{1,0} add(%param_0, %param_1), metadata={op_name="jit(train_step)/jvp(conv2_add)/add"}
}

%fused_reduce (param_0.1: f32[8,4]) -> f32[4] {
  %param_0.1 = f32[8,4]{1,0} parameter(0)
  ROOT %reduce.1 = f32[4]{0} reduce(%param_0.1, %zero), dimensions={0}, to_apply=%sum
}

ENTRY %main.9 (p.1: f32[8,4]) -> (f32[8,4]) {
  %cudnn-conv.1 = (f32[8,4]{1,0}, u8[16]{0}) custom-call(%p.1, %p.2), custom_call_target="__cudnn$convForward", \
metadata={op_name="jit(train_step)/jvp(conv1_conv)/conv_general_dilated"}
  %cudnn-conv-bw-input.2 = (f32[8,4]{1,0}, u8[16]{0}) custom-call(%p.1), custom_call_target="__cudnn$convBackwardInput"
  %cudnn-conv-bw-filter.3 = (f32[8]{0}, u8[0]{0}) custom-call(%p.1), custom_call_target="__cudnn$convBackwardFilter"
  %custom-call.4 = (f32[8]{0}, s8[1]{0}) custom-call(%p.1), custom_call_target="__cublas$lt$matmul"
  %loop_add_fusion = f32[8,4]{1,0} fusion(%p.1, %p.1), kind=kLoop, calls=%fused_add
  ROOT %input_reduce_fusion.6 = f32[4]{0} fusion(%p.1), kind=kInput, calls=%fused_reduce, \
metadata={op_name="jit(train_step)/transpose(jvp(conv2_bn))/reduce_sum"}
}
"""


def test_operations_of_a_program_of_a_gpu_have_kinds():
    """A program with the names that XLA gives to the operations of GPUs."""
    known = profiles.operations(GPU_PROGRAM)
    assert known["cudnn-conv.1"] == ("jit(train_step)/jvp(conv1_conv)/conv_general_dilated", "convolution")
    assert known["cudnn-conv-bw-input.2"][1] == "gradient of a convolution by input"
    assert known["cudnn-conv-bw-filter.3"][1] == "gradient of a convolution by kernel"
    assert known["custom-call.4"][1] == "matrix product"
    assert known["loop_add_fusion"] == ("jit(train_step)/jvp(conv2_add)/add", "elementwise (forward)")
    assert known["input_reduce_fusion.6"][1] == "reduction, with what is fused with it (backward)"


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolution"),
        ("sm80_xmma_wgrad_implicit_gemm_bf16bf16_nhwc", "gradient of a convolution by kernel"),
        ("triton_poi_fused_convolution_backward_native_batch_norm_backward_7", "elementwise"),
        ("triton_red_fused__native_batch_norm_legit_functional_2", "reduction, with what is fused with it"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float>", "batch norm"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTN", "matrix product, also of 1x1 convolutions"),
        ("a_kernel_of_another_name", "a_kernel_of_another_name"),
    ],
)
def test_kernels_of_gpus_have_kinds(kernel, kind):
    assert profiles.kind_of_kernel(kernel) == kind


def test_half_of_the_expected_ratio_is_too_slow():
    rows = [Contender("a", "importing"), Contender("b", "importing"), Contender("c", "importing")]
    found = {"a": turns(1.0), "b": turns(1.4), "c": Turns(error="broken")}
    table = results.Table.of("guard", "Steps", "images/s", rows, found)
    assert table.too_slow({"b": 2.7}) == []
    assert table.too_slow({"b": 2.9}) == ["Steps: a has 1.40 times the speed of b instead of 2.90."]
    assert table.too_slow({"c": 1.0}) == ["Steps: a or c was not measured."]


def test_times_are_of_one_item():
    found = {"a": turns(1.0, 3.0), "b": turns(4.0, 4.0)}
    rows = [Contender(name, "importing") for name in found]
    table = results.Table.of("export", "One image", "ms", rows, found)
    assert table.rows[0].values == [100.0, 300.0]
    assert "| b | 400 (400-400) | 0.50 (0.25-0.75) | 0.50 |  |  | 100 |" in table.markdown()
    found["b"] = turns(0.042, 0.0424)
    found["a"] = turns(0.04, 0.05)
    assert "| b | 0.00422 (0.00420-0.00424) |" in results.Table.of("start_up", "Imports", "s", rows, found).markdown()
    assert results.Table.of("memory", "Memory", "MiB", rows, found).rows[0].values == [100.0, 100.0]


@pytest.mark.parametrize("kind", subjects.KINDS)
@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("quick", [False, True])
def test_what_is_measured_can_be_called(kind, device, quick):
    found = subjects.KINDS[kind](subjects.Settings(device, quick, folder="exports"))
    assert len({subject.title for subject in found}) == len(found)
    for subject in found:
        names = [contender.name for contender in subject.contenders]
        assert len(set(names)) == len(names)
        assert kind == "products" or not subject.contenders[0].is_limit
        for contender in [*subject.contenders, *filter(None, [subject.prepare])]:
            assert "," not in contender.name
            json.dumps([contender.options, contender.environment])
            function = worker.find(contender.make)
            if contender.make == "training_memory":
                function = contenders.keras_training
            inspect.signature(function).bind(**contender.options)


def test_traffic_of_a_block_by_hand():
    """A block of two 3x3 convolutions on maps of 8x8 with 4 channels, 2 images, 2 bytes a number."""
    maps = keras.Input((8, 8, 4))
    options = BlockOptions("basic", "A")
    operations, moved = step_costs.traffic(keras.Model(maps, blocks.block(maps, 4, name="a", options=options)), 2, 2)
    one = 2 * 8 * 8 * 4 * 2  # bytes of a map
    assert operations == dict.fromkeys(step_costs.KINDS[:3], 2 * 2 * (2 * 8 * 8 * 4) * 9 * 4)
    # The addition reads two maps and writes one; its ReLU reads and writes one, and each ReLU's gradient takes three.
    expected = [4, 4, 4, 6, 10, 5, 9]
    assert moved == {kind: count * one for kind, count in zip(step_costs.KINDS, expected, strict=True)}


def test_the_machine_is_named():
    facts = machine.describe()
    assert set(facts) - {"GPU"} == {"date", "processor", "cores", "load before", "versions"}
    assert "keras 3." in facts["versions"]
