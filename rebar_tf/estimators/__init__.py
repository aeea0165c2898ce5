"""The gradient estimators, each a class in a file of its own, and the registry that knows them by name."""

from rebar_tf.estimators.arm import Arm, DisArm
from rebar_tf.estimators.arms import Arms
from rebar_tf.estimators.base import ControlSpec, Estimate, Estimator, Objective, derivatives, evaluate
from rebar_tf.estimators.baseline import InputDependentBaseline
from rebar_tf.estimators.carms import Carms
from rebar_tf.estimators.concrete import Concrete
from rebar_tf.estimators.double_cv import DoubleCv
from rebar_tf.estimators.exact import Exact
from rebar_tf.estimators.gumbel_rao import GumbelRao
from rebar_tf.estimators.local import LocalEstimator
from rebar_tf.estimators.local_expectation import LocalExpectation
from rebar_tf.estimators.multi_sample_rebar import MultiSampleRebar
from rebar_tf.estimators.muprop import MuProp, SimpleMuProp
from rebar_tf.estimators.ovis import Ovis
from rebar_tf.estimators.q_function import QFunction
from rebar_tf.estimators.rao_blackwell import RaoBlackwell
from rebar_tf.estimators.rebar import Rebar
from rebar_tf.estimators.registry import get, names, register, unregister
from rebar_tf.estimators.reinforce import Nvil, Reinforce
from rebar_tf.estimators.reinmax import ReinMax
from rebar_tf.estimators.relax import Lax, Relax
from rebar_tf.estimators.rloo import Rloo
from rebar_tf.estimators.rodeo import Rodeo
from rebar_tf.estimators.scale import Scale
from rebar_tf.estimators.straight_through import DecoupledStraightThrough, GumbelStraightThrough, StraightThrough
from rebar_tf.estimators.temperature import Temperature
from rebar_tf.estimators.unordered_set import UnorderedSet
from rebar_tf.estimators.vimco import Vimco
from rebar_tf.estimators.wake_sleep import WakeSleep

__all__ = [
    "Arm",
    "Arms",
    "Carms",
    "Concrete",
    "ControlSpec",
    "DecoupledStraightThrough",
    "DisArm",
    "DoubleCv",
    "Estimate",
    "Estimator",
    "Exact",
    "GumbelRao",
    "GumbelStraightThrough",
    "InputDependentBaseline",
    "Lax",
    "LocalEstimator",
    "LocalExpectation",
    "MuProp",
    "MultiSampleRebar",
    "Nvil",
    "Objective",
    "Ovis",
    "QFunction",
    "RaoBlackwell",
    "Rebar",
    "ReinMax",
    "Reinforce",
    "Relax",
    "Rloo",
    "Rodeo",
    "Scale",
    "SimpleMuProp",
    "StraightThrough",
    "Temperature",
    "UnorderedSet",
    "Vimco",
    "WakeSleep",
    "derivatives",
    "evaluate",
    "get",
    "names",
    "register",
    "unregister",
]
