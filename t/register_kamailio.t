#!/usr/bin/perl

# Tests for Kamailio's min_expires of 60 s against a lease that has 10 s left:
# it would hold the registration beyond the lease, so that it is not asked;
# and if an operator lets it be asked, that is noticed, and the identity rests.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Ims;
use ImsClient;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('kamailio')->plan(18);

my $dir = $t->testdir();

ims_keys($t);
ims_pool($t, size => 5);

# leases of 10 s, where the operator says that the core takes 60 and where he
# says that it takes 5

ims_poolctl($t, 'pool', 'create', 'short', 'ims.example', '--ttl', 10);
ims_poolctl($t, 'pool', 'create', 'wrong', 'ims.example', '--ttl', 10,
    '--min-expires', 5);
ims_poolctl($t, 'import', $_, '--range', "sip:$_-[01-05]\@ims.example")
    for qw/ short wrong /;

ims_core($t);

$t->write_file_expand('nginx.conf', ims_conf($t, grace => '300s',
    issuers => <<"    END",
        ims_issuer site {
            iss     https://localhost;
            aud     ims.example;
            alg     ES256;
            key     k1 $dir/site.pub.pem $dir/site.key.pem;
            pool    web short wrong;
            origin  http://localhost;
        }
    END
    locations => <<'    END'));
        location = /ims/short {
            ims_identity          short issuer=site;
            ims_identity_user     $remote_user;
        }

        location = /ims/wrong {
            ims_identity          wrong issuer=site;
            ims_identity_user     $remote_user;
        }

        location = /ims/low {
            ims_pass              core;
            ims_core_min_expires  5s;
        }
    END

$t->run();

###############################################################################

# the registrar does raise: a lease that has the time

my $c = ImsClient->new();
is(register($c, expires => 70), 200, 'a long lease');
ok(bound($c) > 60, 'registered for as long as asked');

# 10 s: not asked, however the client puts it

$c = ImsClient->new(identity => '/ims/short');
is(register($c, expires => 600), 401, 'a lease of 10 s');
like(sip_header($c->{answer}, 'WWW-Authenticate'), qr/error="invalid_token"/,
    'told to renew it');
is(register($c, expires => '', contact => '<sip:a@b.invalid>'), 401,
    'without Expires');
is(register($c, expires => 5), 401, 'less than the lease has');
is(register($c, contact => '<sip:a@b.invalid>;expires=abc'), 400,
    'expires=abc');
is(bound($c), 0, 'Kamailio has no binding');
is(scalar(grep { /^REGISTER / && /$c->{id}{impi}/ } ims_core_log($t)), 0,
    'and was not asked');

# asked all the same: Kamailio holds it for 60 s, the client hears of 10 at
# most, and the identity rests until Kamailio has let go

$c = ImsClient->new(identity => '/ims/wrong', ws => { uri => '/ims/low' });
my $rest = rest($c);
my $before = ims_status()->{counters}{register_granted_more};

is(register($c, expires => 600), 200, 'a core that takes less than it grants');
ok(bound($c) > 50, 'Kamailio raised it');
my ($told) = sip_header($c->{answer}, 'Contact') =~ /expires=(\d+)/;
cmp_ok($told, '<', 10, 'the client hears of its lease only');
is(ims_status()->{counters}{register_granted_more} - $before, 1, 'counted');
ok(ims_wait_log($t, qr/\[alert\] .*granted 60 s where \d were asked for/),
    'an alert');

# end + D + margin = 10 + 64 + 30.01: the report is about 60 + 30.01, and
# lies within that; so must the rest stay, and never fall

cmp_ok(rest($c), '>=', $rest, 'the rest does not fall');
cmp_ok(rest($c) - shown($c)->{now}, '>', 60000, 'it outlasts what Kamailio holds');

# the lease ends: the edge takes it back from Kamailio

is(($c->{ws}->closed(15))[0], 1008, 'closed when the lease is over');
ok(ims_wait(10, sub { !bound($c) }), 'and taken back from Kamailio');

# that alert was meant

my $log = $t->read_file('error.log');

$log =~ s/^.*\[alert\].*the core granted.*\n//mg;
$t->write_file('error.log', $log);

###############################################################################

# the status of the answer to a REGISTER

sub register {
    my ($c, %o) = @_;

    $c->send($c->{ua}->register(%o));
    $c->{answer} = $c->answer();

    return $c->{answer} ? $c->{answer}{status} : 0;
}


# seconds for which Kamailio holds a client's contact; 0: not at all

sub bound {
    my ($c) = @_;

    my $bindings = ims_core_bindings($t);
    my ($aor) = $c->{id}{impu} =~ /^sip:(.*)/;
    my ($b) = map { @{$bindings->{$_}} } grep { /\Q$aor\E$/ } keys %$bindings;

    return $b ? $b->{expires} : 0;
}


# until when the identity rests, pool time in ms

sub rest { return shown($_[0])->{rest} }


sub shown { return (ims_poolctl($t, '--json', 'show', $_[0]{id}{impu}))[1] }

###############################################################################
